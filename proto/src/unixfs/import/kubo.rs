//! More CIDs that Kubo gives: narrow trees, every combination of CID options, every fanout, chunker, layout and attribute.
//!
//! Source: `ipfs add --offline -Q` of Kubo 0.43 with the flags that stand beside each CID. A file of n bytes
//! holds `i % 251` at i.

use super::*;

fn file_root(options: &ImportOptions, len: usize) -> Built {
    let content: Vec<u8> = (0..=250).cycle().take(len).collect();
    file_of(options, &content, Attributes::default())
}

fn file_of(options: &ImportOptions, content: &[u8], attributes: Attributes) -> Built {
    let mut builder = FileBuilder::new(options.clone()).with_attributes(attributes);
    for chunk in options.chunker.chunks(content) {
        let leaf = leaf(options, Bytes::copy_from_slice(chunk)).unwrap();
        builder.push(leaf).unwrap();
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
        let content = |bytes: Vec<u8>| leaf(&options, bytes.into()).unwrap();
        let (a, b) = (content(b"a".to_vec()), content(vec![b'b'; 1000]));
        let sub = directory(&[("b", *b.block.cid(), b.tsize())]);
        let target = symlink(&options, "sub/b", None).unwrap();
        let target_len = target.data().len() as u64;
        let root = directory(&[
            ("sub", sub.cid, sub.tsize),
            ("link", *target.cid(), target_len),
            ("a", *a.block.cid(), a.tsize()),
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
            builder.insert(format!("file-{index}"), file.block.cid(), file.tsize()).unwrap();
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

/// The first bytes of what `openssl enc -chacha20` makes of zeros under the SHA2-256 of `chunkers`, counter and nonce 0.
fn noise(len: usize) -> Vec<u8> {
    use multihash_derive::MultihashDigest as _;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

    let key = HashFunction::Sha2_256.digest(b"chunkers");
    let mut content = vec![0; len];
    ChaCha20Rng::from_seed(key.digest().try_into().unwrap()).fill_bytes(&mut content);
    content
}

/// Those options as they are, and with `--cid-version=1`.
fn versions(options: ImportOptions) -> [ImportOptions; 2] {
    let v1 = options.clone().with_cid_options(Some(Version::V1), None, None).unwrap();
    [options, v1]
}

#[test]
fn files_cut_by_their_content_have_kubos_cids() {
    // --chunker, --cid-version=0 and 1
    for (len, chunker, cids) in [
        (
            3_000_000,
            "rabin",
            [
                "QmTgYcfPuwWwr6o6NkVxL1EftkNA3iwhqxpTmNEfToFbPD",
                "bafybeidrxwmlintd3ob6zmhwnbgfvkw4r6ezep36cptc3ygmv7gizjbeqa",
            ],
        ),
        (
            3_000_000,
            "buzhash",
            [
                "QmV5QqrSdXxaQw3LDpDugFdV5QuSe2E2Uqa6VcACokBBpN",
                "bafybeih7vpj3vfo5i5ojilqckcsedh4pd3eilcsyizui54tu2nkzjdzrfm",
            ],
        ),
        (
            131_071,
            "buzhash",
            [
                "QmVscsfzudP2jaK1BvLokvRQyY2ykdzp9YFYyveZGxwAWa",
                "bafkreibwoknzgacwyl2ay4l3qtbjeaj3l4h5qlrzl3harugyr7o7wxeyqi",
            ],
        ),
        (
            131_072,
            "buzhash",
            [
                "QmWr6qWchbW6ckphZmUQmwhUj8rwtJ87o1dY88DUy3z9yU",
                "bafkreifkpubz2ysx3fywet3kvajdiro7mubt6hqvatgwlpoqquu4fljni4",
            ],
        ),
        (
            131_073,
            "buzhash",
            [
                "QmWp9yJhc3pGyBGXEHV9vqyUJUPNXR7T9QwhtsgmAQTv7z",
                "bafkreibnlolpbss5ru5m3dimcdamabsjeneltcen7pym5kdghbq3jgiuwq",
            ],
        ),
        (
            400_000,
            "rabin",
            [
                "QmQ7JiVzFgCXUPpshzgzmvLyzSJFk4wT989ELmtXF7xtrF",
                "bafybeial4kk4cd5nzpu5jbm3tx5cljranxm3fjskpnu6yxh5lavgar7mwm",
            ],
        ),
        (
            3_000_000,
            "rabin-1000",
            [
                "Qmany4p6wJKjD3AYjU9PDvCpzUNo4qmrTC3zu24vNnpW1d",
                "bafybeiflzdwauksxw3p5wwbyqo5kv4hkhq7dejya3rb7tlehs2sjrsw55a",
            ],
        ),
        (
            50_000,
            "rabin-48",
            [
                "QmVzwU4pmm3uz4z9cTcsEwV5LLcVf8p4cyQYdVftAvaQS7",
                "bafybeiavvl7zeedoybsz33hqjobj6tgjuatvwixyfzkc5hzv2tdikwhvdq",
            ],
        ),
        (
            50_000,
            "rabin-16-17-18",
            [
                "QmPgrmKRaGfW8j8ooNHgCHWeeYCWVTy2LgiZ82zCBatG6Y",
                "bafybeigr32s2nkdeckzplsnlfktv6wksypc5cpjoru2njfkq4hk3xfemom",
            ],
        ),
        (
            3_000_000,
            "rabin-16-100000-2096896",
            [
                "QmThf7NB5NfWShoKFsF6bYZi4T7Vbt6NqKAQp1yRqzQVxi",
                "bafybeidi4j7zafdxhst6lgb445ure6ovh2vspbwxblwtakv7r2kb6i7ctu",
            ],
        ),
        (
            600_000,
            "rabin-min:1000-avg:5000-max:6000",
            [
                "QmUCFdnFBAGHrycPKkfgGuR32VySCKKQp5kbDuKt1VVZqT",
                "bafybeiau5g2spuu6gf2nc7cqki27jhyrhxplcbp7nvg474xovdxg6pj4di",
            ],
        ),
        (
            87_381,
            "rabin",
            [
                "QmNz36U9gTRWTKRBMtF5XP5WRgMVFo4KGxPJPL6c3hubai",
                "bafkreieyyroglkbrboqgdrhb74foplai6c5vatikjkew4d5rwlwcskceh4",
            ],
        ),
    ] {
        let options = ImportOptions { chunker: Chunker::parse(chunker).unwrap(), ..kubo() };
        let content = noise(len);
        let ours = versions(options)
            .map(|options| file_of(&options, &content, Attributes::default()).cid.to_string());
        assert_eq!(ours, cids, "{chunker} {len}");
    }
}

#[test]
fn trickle_trees_have_kubos_cids() {
    // --trickle --chunker=size-100 --max-file-links=3, --cid-version=0 and 1
    let narrow = ImportOptions {
        chunker: Chunker::fixed(100).unwrap(),
        layout: Layout::Trickle,
        max_file_links: 3,
        ..kubo()
    };
    for (len, cids) in [
        (
            0,
            [
                "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
                "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y",
            ],
        ),
        (
            100,
            [
                "QmZEmS7guxiPPFB8Ht2HCeKhX8yrNT2MhUsiCsjLLNADNn",
                "bafybeiethonrtg5vum5zpgicowi3uuixsurh7nerziz7bk6bwohpbhrvri",
            ],
        ),
        (
            200,
            [
                "QmRL1eaEGHiKScLTU4geuxJawKRPJZDm2JmcbQSpfCJcsz",
                "bafybeihmsbpf3bv4doozjtn5fyxmzc7zzcc5b76lzb55por6nizatb7tiy",
            ],
        ),
        (
            300,
            [
                "QmcTGVdd4fWRZKAM2duC1J3AZwLYqPssBPfW8Thi47gyx4",
                "bafybeiei64v2wwfseho7ypt6vtvmrk3mj5gpjgcahxywvmbxv5fcax2mtm",
            ],
        ),
        (
            400,
            [
                "QmfJD49seFNAMqKFNkL9B2cp71MrX45BtLWQ2c3aaCScYS",
                "bafybeicdrw5orf7ah7hbkz3xoppwfjzcnbgmupkg62ovx5zxhtxfyrxn3u",
            ],
        ),
        (
            500,
            [
                "QmavpixL9NYf7FYp6Z5BZvX9onJcP8jhJgLtz6Y5um2EcM",
                "bafybeicvwbdr366vmdznmmzqywe3f7h4isjusb6ztrhgdrbuqq5zko3slu",
            ],
        ),
        (
            1_000,
            [
                "QmNgBbnS4f4gUVKGz9ZsWFVgsKwa61fEYpfijrcz7EkmKL",
                "bafybeicmg5plr22yqo24fwvaz4otmbanxohxnqfjwbuc3qlf5wn6uq2mcq",
            ],
        ),
        (
            1_600,
            [
                "QmewYDBwkzYQsvV9JSt2GE8SyB9yqaVcAFo47LgS19rh8K",
                "bafybeihzim7yd2f4flx3jlg4qbfnwmlifbif3hut3f5hpkn3jsel6dp2oy",
            ],
        ),
        (
            3_100,
            [
                "QmRv8GJCeuZFMJLmk5StpRtZjs8Nmyh74WWqytV8tSkxv8",
                "bafybeibzfg7vv2bbadxpr62vcwe2kn3t2tw3m2n4mqcwpsux5rx3xlfxxq",
            ],
        ),
        (
            10_000,
            [
                "QmXfFJkThJ3Z6dhbhbC44Q17AfJ6x8ty58ZZvFPV9pH3cR",
                "bafybeichp2jxl6yx7obgz5o35z23qsnykzzoqi74betpouv6m6t6qjdcf4",
            ],
        ),
        (
            100_000,
            [
                "Qmb4XdtEa622GegG3J4ppprfoPs9EXaN93yhZBkTd6rZ6h",
                "bafybeic3uhnwkx4fvlqw2a55vtqwv6jw4mfsiw54sec2hkpglujk3b53ay",
            ],
        ),
    ] {
        let content = noise(len);
        let ours = versions(narrow.clone())
            .map(|options| file_of(&options, &content, Attributes::default()).cid.to_string());
        assert_eq!(ours, cids, "{len}");
    }
    // --trickle --chunker=size-1000, with and without --raw-leaves
    let options = ImportOptions { chunker: Chunker::fixed(1000).unwrap(), layout: Layout::Trickle, ..kubo() };
    let content = noise(3_000_000);
    let ours = |options: &ImportOptions| file_of(options, &content, Attributes::default()).cid.to_string();
    assert_eq!(ours(&options), "QmcC1sD4CRL7gyK7oGKr2DjJzKovqGHwwbj4uqLtp7rv1Z");
    let raw = ImportOptions { raw_leaves: true, ..options };
    assert_eq!(ours(&raw), "QmZFELkNQXu1inL2X96dmCtCd6MsB8bsvfqGRgAPFQ3HPR");
}

#[test]
fn blocks_in_their_cids_are_those_that_kubo_puts_there() {
    // --chunker=size-20 --inline with --cid-version=0, 1, and 1 with --inline-limit=128;
    // --chunker=size-262144 --inline --inline-limit=0
    for (len, [v0, v1, long, none]) in [
        (0, ["bafyaabqkaqeaegaa", "bafkqaaa", "bafkqaaa", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"]),
        (
            1,
            [
                "bafyaacika4eaeeqb7imac",
                "bafkqaap2",
                "bafkqaap2",
                "QmetHsj4VcAUYPWfZoicnej9Qr6ddX6Vnf3scZVXMVtPSp",
            ],
        ),
        (
            20,
            [
                "bafyaahakdieaeequ7lpr6qqnnbwxn64hnf3axswxp55coaufdaka",
                "bafkqafh234puedlinv3pxb3joyf4vv37pitqfbi",
                "bafkqafh234puedlinv3pxb3joyf4vv37pitqfbi",
                "QmextEfXAMzZwEndCCxkTqWErRYDc8Qv8EPS9W19BLeAZU",
            ],
        ),
        (
            26,
            [
                "Qmb2RenoV8GC7aX92gPg5VseQ7i6PgvDpKVAWaKEs2swxM",
                "bafybeiedtoucopobjc22eflxeybryr5vori7eldyacyhsudnnhe4amufti",
                "bafyaapasdyfbqakvaakpvxy7iigwq3lw7odws5qlzllx66rhakcreaaycqjbacqkafkqabrce5pwjo3ociabqbqkbaeaega2eakcabq",
                "Qmc8ztxvq6YVtkE4ztTRXL41CCwMrrAM6XqPr1V1onoE25",
            ],
        ),
        (
            33,
            [
                "QmecXe1LKrPV1rwcj7tGpdqmkkGJHFse8LU53HemTSzSpE",
                "bafybeiaxbrw3oueigiboluw5vbgplcpufda65wcgjpvgoces44g2kcua2y",
                "bafyaaqysdyfbqakvaakpvxy7iigwq3lw7odws5qlzllx66rhakcreaaycqjbocqrafkqadjce5pwjo3ok36fcfrh4qtreaaybufaqcacdaqsafbabu",
                "QmZwU14PNfhNw4eBhJWYWEZTT3sjfpZYHoxKKkYu8REKfH",
            ],
        ),
        (
            100,
            [
                "QmVYueFRLJoBxgfWxqSiADpe8pzTPbvqsGMFTYEiEzFU8y",
                "bafybeibenkfc7b366xxcdq6kybrrblnkcz7bnlj4zd4n2emuzs5jskbrzm",
                "bafybeibenkfc7b366xxcdq6kybrrblnkcz7bnlj4zd4n2emuzs5jskbrzm",
                "Qme8m56MiB3LDR99VgdeqopiJoxgC8rjovPYqpvy5Dr8X4",
            ],
        ),
    ] {
        let with = |limit, chunk_bytes| ImportOptions {
            chunker: Chunker::fixed(chunk_bytes).unwrap(),
            inline_limit_bytes: Some(limit),
            ..kubo()
        };
        let [short_v0, short_v1] = versions(with(32, 20));
        let [_, long_v1] = versions(with(128, 20));
        for (options, cid) in [(short_v0, v0), (short_v1, v1), (long_v1, long), (with(0, 262_144), none)] {
            let built = file_of(&options, &noise(len), Attributes::default());
            assert_eq!(built.cid.to_string(), cid, "{len} {options:?}");
        }
    }
    // An empty directory: --inline, --cid-version=0 and 1
    for options in versions(ImportOptions { inline_limit_bytes: Some(32), ..kubo() }) {
        assert_eq!(DirectoryBuilder::new(options).finish().unwrap().cid.to_string(), "bafyaabakaieac");
    }
}

#[test]
fn files_with_mode_and_time_have_kubos_cids() {
    // --mode=0644 --mtime=5, with and without --trickle; `hello`, and the empty file
    let mtime = Some(Mtime { seconds: 5, nanos: None });
    let attributes = Attributes { mode: Some(0o644), mtime };
    for (layout, hello, empty) in [
        (
            Layout::Balanced,
            "QmZmnQbFJhQQVjEordixvS3Co1a5GQQvXztZPFF6TVAzAv",
            "QmWUBotzBCZQe2Vc2eRuSxTxoUoS7qKkowLi5Df8DjaoHK",
        ),
        (
            Layout::Trickle,
            "QmNk7kSmXrqLF6opmvgfCXc6pQ9cg49CzDBmFUHgo4S4pY",
            "QmWUBotzBCZQe2Vc2eRuSxTxoUoS7qKkowLi5Df8DjaoHK",
        ),
    ] {
        let options = ImportOptions { layout, ..kubo() };
        for (content, cid) in [(&b"hello"[..], hello), (b"", empty)] {
            let built = file_of(&options, content, attributes);
            assert_eq!(built.cid.to_string(), cid, "{layout:?} {content:?}");
        }
    }
}
