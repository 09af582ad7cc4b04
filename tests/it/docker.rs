//! What `docker/` holds, without a container engine: the entry point as a program, the compose files against the
//! configuration and the image that they name.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cairn_node::settings::config::Config;
use cairn_tests::{Process, Scratch, cairn_binary, run};
use yaml_rust2::{Yaml, YamlLoader};

/// Longest wait for a program, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

const DOCKERFILE: &str = include_str!("../../docker/Dockerfile");
const COMPOSE_FILES: [(&str, &str); 2] = [
    ("compose.yaml", include_str!("../../docker/compose.yaml")),
    ("compose.gateway.yaml", include_str!("../../docker/compose.gateway.yaml")),
];

/// A container, but for its walls.
struct Container {
    scratch: Scratch,
}

impl Container {
    fn new() -> Self {
        let scratch = Scratch::new();
        for folder in ["bin", "init"] {
            fs::create_dir(scratch.path(folder)).expect("a folder can be made");
        }
        symlink(cairn_binary(), scratch.path("bin/cairn")).expect("a link can be made");
        Self { scratch }
    }

    fn repo(&self) -> PathBuf {
        self.scratch.path("repo")
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.scratch.path("init").join(name), text).expect("a script can be written");
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.scratch.path("bin").display());
        let mut command = Command::new(program);
        command.args(args).env_clear().env("PATH", path);
        command.env("CAIRN_PATH", self.repo()).env("CAIRN_INIT_DIR", self.scratch.path("init"));
        // The ports of a container are its own, those of this computer are not.
        for key in ["Gateway", "GatewayTLS"] {
            command.env(format!("CAIRN_CONFIG__Addresses__{key}"), "/ip4/127.0.0.1/tcp/0");
        }
        command.env("CAIRN_PROFILE", "test");
        command
    }

    fn entry(&self, args: &[&str]) -> Command {
        let entrypoint = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker/entrypoint");
        self.command(Path::new("sh"), &[&[entrypoint], args].concat())
    }

    fn cairn(&self, args: &[&str]) -> Command {
        self.command(&cairn_binary(), args)
    }

    fn show(&self, key: &str) -> String {
        run(&mut self.cairn(&["config", key]), DEADLINE).text()
    }

    fn is_healthy(&self) -> bool {
        run(&mut self.cairn(&["health", "--timeout", "60s"]), DEADLINE).status.success()
    }
}

fn wait_until_ready(process: &mut Process) {
    process.wait_for("Daemon is ready", DEADLINE, |line| (line == "Daemon is ready").then_some(()));
}

#[test]
fn a_container_makes_a_repo_once_runs_its_scripts_at_every_start_and_ends_at_a_signal() {
    let container = Container::new();
    container.script("10-first.sh", "echo first >> \"$CAIRN_PATH/ran\"");
    container
        .script("20-second.sh", "cairn config Version.AgentSuffix \"$(cat \"$CAIRN_PATH/ran\" | wc -l)\"");
    container.script("30-not.txt", "exit 1");
    for start in ["1", "2"] {
        let mut process = Process::start("a container", &mut container.entry(&["daemon"]));
        wait_until_ready(&mut process);
        assert_eq!(container.show("Addresses.Gateway"), "/ip4/0.0.0.0/tcp/8080");
        assert_eq!(container.show("Version.AgentSuffix"), start);
        assert!(container.is_healthy());
        let signal = ["-TERM".to_owned(), process.id().to_string()];
        assert!(Command::new("kill").args(signal).status().expect("kill is everywhere").success());
        assert!(process.wait(DEADLINE).success());
        assert!(!container.is_healthy());
    }
}

#[test]
fn a_container_of_a_gateway_alone_has_no_rpc_and_tells_its_health() {
    let container = Container::new();
    let mut process = Process::start("a container", &mut container.entry(&["gateway"]));
    wait_until_ready(&mut process);
    assert_eq!(container.show("Gateway.NoFetch"), "false", "the profile of a gateway");
    assert!(!container.repo().join("api").exists());
    assert!(container.is_healthy());
    process.kill();
}

#[test]
fn a_start_ends_with_the_first_script_that_fails() {
    let container = Container::new();
    container.script("10-fails.sh", "echo no >&2; exit 7");
    container.script("20-never.sh", "touch \"$CAIRN_PATH/never\"");
    let output = run(&mut container.entry(&["daemon"]), DEADLINE);
    assert_eq!(output.status.code(), Some(7), "{}", output.stderr);
    assert!(!container.repo().join("never").exists());
}

#[test]
fn other_commands_of_a_container_need_no_repo() {
    let container = Container::new();
    let version = run(&mut container.entry(&["version", "--number"]), DEADLINE).text();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert!(!container.repo().exists());
}

#[test]
fn compose_files_set_keys_that_there_are_and_fit_the_image() {
    let documented = include_str!("../../docs/CONFIG.md");
    let exposed: BTreeSet<_> = words(DOCKERFILE, "EXPOSE ").collect();
    let volume = words(DOCKERFILE, "VOLUME ").next().expect("the image has a volume");
    for (name, text) in COMPOSE_FILES {
        let files = YamlLoader::load_from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = &files[0];
        let services = file["services"].as_hash().expect("a compose file has services");
        for (service, settings) in services {
            let of = format!("{name} {service:?}");
            let variables = settings["environment"].as_hash().expect("settings come by environment");
            let overrides = variables.iter().map(|(key, value)| {
                let key =
                    text_of(key).strip_prefix("CAIRN_CONFIG__").unwrap_or_else(|| panic!("{of} {key:?}"));
                let dotted = key.replace("__", ".");
                assert!(documented.contains(&format!("`{dotted}`")), "{of}: CONFIG.md has no {dotted}");
                (key.to_owned(), filled(text_of(value)))
            });
            let config = Config::generate().with_overrides(overrides).expect("keys can be set");
            config.check().unwrap_or_else(|error| panic!("{of}: {error}"));
            for mapping in list(&settings["ports"]) {
                let inner = mapping.split_once(':').expect("a mapping has two sides").1;
                let inner = if inner.contains('/') { inner.to_owned() } else { format!("{inner}/tcp") };
                assert!(exposed.contains(inner.as_str()), "{of}: {mapping}");
            }
            for mount in list(&settings["volumes"]) {
                let (named, path) = mount.split_once(':').expect("a mount");
                assert_eq!(path, volume, "{of}");
                assert!(!file["volumes"][named].is_badvalue(), "{of}: {named} is no volume");
            }
            let command = list(&settings["command"]);
            let mut help = Command::new(cairn_binary());
            let output = run(help.args(&command).arg("--help"), DEADLINE);
            assert!(output.status.success(), "{of}: {command:?}: {}", output.stderr);
        }
    }
}

#[test]
fn the_image_is_made_of_files_that_there_are_and_of_a_health_check_that_there_is() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let copied = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("COPY docker/")?.split_once(' '));
    assert!(copied.map(|(file, _)| assert!(root.join("docker").join(file).is_file(), "{file}")).count() > 0);
    assert!(DOCKERFILE.contains("CMD [\"cairn\", \"health\"]"));
    let help = run(Command::new(cairn_binary()).args(["health", "--help"]), DEADLINE);
    assert!(help.status.success());
}

/// Words of the line that starts so.
fn words<'a>(file: &'a str, start: &str) -> impl Iterator<Item = &'a str> {
    file.lines().find_map(|line| line.strip_prefix(start)).expect("the line is there").split_whitespace()
}

fn text_of(yaml: &Yaml) -> &str {
    yaml.as_str().unwrap_or_else(|| panic!("not a text: {yaml:?}"))
}

fn list(yaml: &Yaml) -> Vec<&str> {
    yaml.as_vec().into_iter().flatten().map(text_of).collect()
}

/// The text with its variables filled in: by their default, or by a name where they have to be set.
fn filled(text: &str) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (variable, after) = rest.split_once('}').expect("a variable ends");
    let (_, default) = variable.split_once(":-").unwrap_or(("", "gateway.example"));
    format!("{before}{default}{}", filled(after))
}
