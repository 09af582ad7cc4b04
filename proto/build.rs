//! Generates the protobuf types of `proto/*.proto`, without a protobuf compiler on the machine.

/// Schemas, in the folder `proto`.
const SCHEMAS: &[&str] = &["bitswap.proto", "ipns.proto", "kad.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(SCHEMAS, ["proto"])?;
    // `bytes`: payloads are slices of the buffer that they were received in.
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
