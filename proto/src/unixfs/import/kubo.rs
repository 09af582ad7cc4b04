//! More CIDs that Kubo gives: narrow trees, every combination of CID options, every fanout.
//!
//! Source: `ipfs add --offline -Q` of Kubo 0.43 with the flags that stand beside each CID. A file of n bytes
//! holds `i % 251` at i.

use super::*;

fn file_root(options: &ImportOptions, len: usize) -> Built {
    let content: Vec<u8> = (0..=250).cycle().take(len).collect();
    let mut builder = FileBuilder::new(options.clone());
    for chunk in Bytes::from(content).chunks(options.chunker.chunk_bytes()) {
        let leaf = leaf(options, Bytes::copy_from_slice(chunk)).unwrap();
        builder.push(leaf.to_ref()).unwrap();
    }
    builder.finish().unwrap()
}

/// Kubo's defaults: profile unixfs-v0-2015.
fn kubo() -> ImportOptions {
    ImportOptions::from_profile(Profile::UnixfsV0_2015)
}

#[test]
fn trees_of_every_shape_have_kubos_cids() {
    // --chunker=size-100 --max-file-links=3
    let options = ImportOptions { chunker: Chunker::fixed(100).unwrap(), max_file_links: 3, ..kubo() };
    for (leaf_count, cid) in [
        (1, "Qmc79UcrLnTXJkkgneodRrovzxKvYzHdyJx675X5iAjkVr"),
        (2, "QmfYJootx3Ky579jG84mFK3ZLKTxBiAaf47cuxLN94EMPm"),
        (3, "QmYpttqjLiDBtctKeT8PtfhpVvKEHz9SgRQqwPF8X3GBsg"),
        (4, "QmSVAuc3ew4KLGB2Gs4oMQTQHnSQpGyoLUNL4JVB77S1Es"),
        (9, "QmWgWoYDPvqGa2pX2SPS86ZcqsZN9wXTmeQobzsdYNYFih"),
        (10, "QmcsNWDcApJ6eznqQCeJHAqd7G9NefAi2NqnsH2bmEDFx2"),
        (27, "QmRK1zBwdhiiX6EWKHLLZ9QtrbnVpLcjBLPEmpnQ5uh6BV"),
        (28, "QmXe3i9od2jL5takyNU6XtoSfhp8JuiW2wEPzKT5FBquSW"),
    ] {
        let built = file_root(&options, leaf_count * 100);
        assert_eq!((built.cid.to_string().as_str(), built.len_bytes), (cid, leaf_count as u64 * 100));
    }
}

#[test]
fn cid_options_go_together_as_kubo_has_them() {
    use HashFunction::{Blake3, Sha2_512};
    use Version::{V0, V1};
    // --chunker=size-1000 --max-file-links=3 and: --cid-version, --hash, --raw-leaves; a file of 10,000
    // bytes, one of 100, a directory {a: "a", link -> sub/b, sub: {b: "b" × 1000}}, and the link in it.
    let cases: [(_, _, _, [&str; 4]); 6] = [
        (
            Some(V0),
            None,
            None,
            [
                "QmTycBrGK2j6Mcb1zYPKHmSeRVSraecZfHcpfJKG3BU69V",
                "Qmc79UcrLnTXJkkgneodRrovzxKvYzHdyJx675X5iAjkVr",
                "QmVmEkshfZe7FMG4KY4eXDuPUs48BPcVd3PLhz9WiXxAPa",
                "QmfA4VqLk8o14oc3JeqkH4PRNKk5sai3AwzprB4XystPhf",
            ],
        ),
        (
            Some(V1),
            None,
            None,
            [
                "bafybeiclk42ywrpeujldlwv7gpm6joocovfeui43wagod4qswkceskvase",
                "bafkreif44cx7dhhvvjvhi2ndbvq5atsdo3slx5rycbjo5ht7gojfzfknki",
                "bafybeihuau3zd2kc5eexaipfkidbzqcgup3cobaernxc3dkfx4igml3rbu",
                "bafybeihz4ax33d25v35wxfqt5xm53nmze6ojvxwke7itdlabywc4lwnlmy",
            ],
        ),
        (
            Some(V1),
            None,
            Some(false),
            [
                "bafybeibsoz6omrninxpm5qldcsap34j3jsruikp7mqzritzqslf7w5zsce",
                "bafybeigmrybvvwqcdfbtfrbjnsv5trgzkcc2izrquty6qq7tfyd5f2ocku",
                "bafybeienjxhor4ikgglbbulz3wbsbes4ht7fwuvxqiw7r6u6wplnnphfem",
                "bafybeihz4ax33d25v35wxfqt5xm53nmze6ojvxwke7itdlabywc4lwnlmy",
            ],
        ),
        (
            Some(V0),
            None,
            Some(true),
            [
                "Qmet7QFp35YEHuEdSbbntt3CUpEJ4oAEo7EC4FdUbiYpp6",
                "bafkreif44cx7dhhvvjvhi2ndbvq5atsdo3slx5rycbjo5ht7gojfzfknki",
                "QmWxk96sK4PEV5aGREpqdkN45uLLuxDqNJMDfbhLNMJa2X",
                "QmfA4VqLk8o14oc3JeqkH4PRNKk5sai3AwzprB4XystPhf",
            ],
        ),
        (
            None,
            Some(Blake3),
            None,
            [
                "bafyb4idwa4cmfp5bbccnjkgawadnmwoxivzmqjoqqw5gnycquzwjnr5h3m",
                "bafkr4ieof2y3xiyebohwcgqsicqoceohjnc47sok5uilsx3dolnryqfywu",
                "bafyb4idmvf2nx6juu66yybzw7mpyjwy6mtprhsnevuhn5j3jbba3rvgv2y",
                "bafyb4iamkbwg7mlieu3ukkuzr67jkyh5fgvavn2jzpw52mtss74mpmtzvy",
            ],
        ),
        (
            None,
            Some(Sha2_512),
            Some(false),
            [
                "bafybgqghe6ztsfnwjbyc25aszp3tcnvxgulh66lsbkxkmj7k5676opfxkbaz2urkfxgpclueholqzeh75kzltn7oa2fgkm3z4ko7nw3uw6rkk",
                "bafybgqdw3b3cqejd3gmngt7eug4lclfj7ult54h5d3kb2wki3754cadhj7biwjo3eicntivimnx5ebnunpiowstmw3n5tkiok3oi3huruqapi",
                "bafybgqhktbrntsxqfv3rxr7tpejy6itjrdf2yclemlblpfi4abpaxmuqrw3vqqc6t7pg4jgxhx4ocbxdfxan76kpiiwfbuulxhoxwa2eiylzy",
                "bafybgqedkeq6jcbbpyys74k2767tidzx3ws5azcgxjrdhwi7xbegf2avjur7xmd5x7vx46gx2s2ues6yui7otgu65zngpwx4ii427luepajhg",
            ],
        ),
    ];
    let narrow = ImportOptions { chunker: Chunker::fixed(1000).unwrap(), max_file_links: 3, ..kubo() };
    for (version, hash, raw_leaves, [file, small, tree, link]) in cases {
        let options = narrow.clone().with_cid_options(version, hash, raw_leaves).unwrap();
        let directory = |entries: &[(&str, Cid, u64)]| {
            let mut builder = DirectoryBuilder::new(options.clone());
            entries.iter().for_each(|(name, cid, tsize)| builder.insert(name, cid, *tsize).unwrap());
            builder.finish().unwrap()
        };
        let content = |bytes: Vec<u8>| leaf(&options, bytes.into()).unwrap().to_ref();
        let (a, b) = (content(b"a".to_vec()), content(vec![b'b'; 1000]));
        let sub = directory(&[("b", b.cid, b.tsize)]);
        let target = symlink(&options, "sub/b").unwrap();
        let target_len = target.data().len() as u64;
        let root = directory(&[
            ("sub", sub.cid, sub.tsize),
            ("link", *target.cid(), target_len),
            ("a", a.cid, a.tsize),
        ]);
        let ours = [file_root(&options, 10_000).cid, file_root(&options, 100).cid, root.cid, *target.cid()];
        assert_eq!(ours.map(|cid| cid.to_string()), [file, small, tree, link]);
    }
}

#[test]
fn version_0_with_another_hash_is_refused() {
    let error = kubo().with_cid_options(Some(Version::V0), Some(HashFunction::Blake3), None).unwrap_err();
    assert!(matches!(error, ImportError::Options(_)));
}

#[test]
fn options_that_nobody_asked_for_stay() {
    let wrapped = ImportOptions { raw_leaves: false, ..ImportOptions::default() };
    assert_eq!(wrapped.clone().with_cid_options(None, None, None).unwrap(), wrapped);
    let blake3 = wrapped.clone().with_cid_options(None, Some(HashFunction::Blake3), None).unwrap();
    assert_eq!(blake3, ImportOptions { hash: HashFunction::Blake3, ..wrapped });
    // The default profile asked for version 0 gives what Kubo gives for it.
    let v0 = ImportOptions::default().with_cid_options(Some(Version::V0), None, None).unwrap();
    assert!(!v0.raw_leaves);
}

#[test]
fn sharded_directories_of_every_fanout_have_kubos_cids() {
    let directory = |options: &ImportOptions| {
        let mut builder = DirectoryBuilder::new(options.clone());
        for index in 0..1000 {
            let file = leaf(options, index.to_string().into()).unwrap();
            builder.insert(format!("file-{index}"), file.block.cid(), file.tsize).unwrap();
        }
        builder.finish().unwrap().cid.to_string()
    };
    // --max-directory-links=999 --max-hamt-fanout, --cid-version=0 and 1
    for (hamt_fanout, v0, v1) in [
        (
            8,
            "Qma9VMzBnDUxMvPrchEU54v8abn5DpjtHjNr8h9GdRqa7g",
            "bafybeidhm4lc6e23kneh2q5hth7n4eboq3ggyafcovkbaoupwrckghxgoq",
        ),
        (
            16,
            "QmWt31hDWfH7uDePunXdGfAg93D6awBsihSCtkW5gfDG12",
            "bafybeifccbnzt6fogxo77esbcqb63n4dmgbqr4sjz562ydkqh5gzbrffde",
        ),
        (
            64,
            "QmTP9c6XD1SBMqdsyt1R5t2d3xpJbPFuBAehQ91DGPRm1Y",
            "bafybeiddjojbc5u2tsiecunkjqgiu3oznhrldy6h3bkihqva33rjan4wfu",
        ),
        (
            256,
            "QmPsmZPxCPmXEA9GZjGTiphPR4LzujFo1RtJzZ2LmesgXE",
            "bafybeibrpg5yrltxwllozo5vu5tkfn6ilmipmcqlhlaex5ddyah3zqx6ce",
        ),
        (
            1024,
            "QmWR2NTh1hxfi94rc3ciRm43se35j2AdjSR9k1xMn97fJn",
            "bafybeic4a2x4bnt4zf5x6ni35evlbhvfcjmbvqtnaid3ctuckq7fyzxjw4",
        ),
    ] {
        let options = ImportOptions { max_directory_links: 999, hamt_fanout, ..kubo() };
        assert_eq!(directory(&options), v0, "{hamt_fanout}");
        let options = options.with_cid_options(Some(Version::V1), None, None).unwrap();
        assert_eq!(directory(&options), v1, "{hamt_fanout}");
    }
    // --max-directory-links=1000
    let plain = ImportOptions { max_directory_links: 1000, ..kubo() };
    assert_eq!(directory(&plain), "QmSoNAsy8T5JmFmevXGf6kAiGLcoMou12uV8qxm7rtMZTq");
}
