//! Files: whole, in ranges, by name and by look.

use bytes::Bytes;
use cairn_proto::cid::{Cid, IDENTITY, Multihash, RAW};
use cairn_proto::unixfs::import::{ImportOptions, Profile};

use crate::support::{Store, get, pattern};

const CHUNK: usize = 1000;

#[tokio::test]
async fn a_file_of_any_number_of_blocks_comes_whole() {
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
        let store = Store::default();
        let data = pattern(len);
        let file = store.file(&data, CHUNK);
        let answer = get(format!("/ipfs/{file}")).of(&store.gateway()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.bytes(), &data, "{len}");
        assert_eq!(answer.header("content-length"), len.to_string());
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert_eq!(answer.header("etag"), format!("\"{file}\""));
        assert_eq!(answer.header("cache-control"), "public, max-age=29030400, immutable");
        assert_eq!(answer.header("x-ipfs-path"), format!("/ipfs/{file}"));
        assert_eq!(answer.header("x-ipfs-roots"), file.to_string());
    }
}

#[tokio::test]
async fn a_wrapped_single_block_comes_without_its_wrapping() {
    let store = Store::default();
    let file = store.file_with(b"hello world", ImportOptions::from_profile(Profile::UnixfsV0_2015));
    // Source: IPIP-499, profile unixfs-v0-2015.
    assert_eq!(file.to_string(), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    let answer = get(format!("/ipfs/{file}")).of(&store.gateway()).await;
    assert_eq!(answer.text(), "hello world");
    assert_eq!(answer.header("etag"), "\"Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD\"");
}

#[tokio::test]
async fn a_small_file_is_the_same_from_memory() {
    let store = Store::default();
    let gateway = store.gateway();
    let file = store.raw("remember me");
    let first = get(format!("/ipfs/{file}")).of(&gateway).await;
    let reads = store.read_count();
    let second = get(format!("/ipfs/{file}")).of(&gateway).await;
    assert_eq!(store.read_count(), reads, "the second answer reads no block");
    assert_eq!((first.bytes(), &first.headers), (second.bytes(), &second.headers));
}

#[tokio::test]
async fn a_range_is_what_the_file_has_there() {
    let store = Store::default();
    let data = pattern(3 * CHUNK);
    for chunk in [CHUNK, 10 * CHUNK] {
        let file = store.file(&data, chunk);
        let gateway = store.gateway();
        for (range, start, end) in [
            ("0-0", 0, 1),
            ("6-16", 6, 17),
            ("998-1002", 998, 1003),
            ("2999-", 2999, 3000),
            ("-3", 2997, 3000),
            ("6-16,0-4", 6, 17),
        ] {
            let answer =
                get(format!("/ipfs/{file}")).with("range", format!("bytes={range}")).of(&gateway).await;
            assert_eq!(answer.status, 206, "{range}");
            assert_eq!(answer.bytes(), &data[start..end], "{range}");
            assert_eq!(answer.header("content-range"), format!("bytes {start}-{}/3000", end - 1));
            assert_eq!(answer.header("content-length"), (end - start).to_string());
        }
    }
}

#[tokio::test]
async fn a_range_that_does_not_exist_is_416_and_of_an_empty_file_200() {
    let store = Store::default();
    let (file, empty) = (store.raw("12345"), store.raw(""));
    let gateway = store.gateway();
    let answer = get(format!("/ipfs/{file}")).with("range", "bytes=5-").of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-range")), (416, "bytes */5"));
    let answer = get(format!("/ipfs/{empty}")).with("range", "bytes=0-").of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.bytes().len()), (200, 0));
}

#[tokio::test]
async fn if_range_with_another_tag_gets_the_whole_file() {
    let store = Store::default();
    let file = store.raw("12345");
    let gateway = store.gateway();
    let ask = |tag: String| get(format!("/ipfs/{file}")).with("range", "bytes=0-1").with("if-range", tag);
    assert_eq!(ask(format!("\"{file}\"")).of(&gateway).await.status, 206);
    assert_eq!(ask("\"other\"".to_owned()).of(&gateway).await.text(), "12345");
}

#[tokio::test]
async fn a_range_needs_no_block_outside_of_it() {
    // Source: gateway-conformance, TestGatewayUnixFSFileRanges, with its body checked as well.
    let store = Store::default();
    let data = pattern(3 * CHUNK);
    let file = store.file(&data, CHUNK);
    store.lose(&store.leaves(&file)[1]);
    let gateway = store.gateway();
    for (start, end) in [(997, 999), (2200, 2201)] {
        let answer =
            get(format!("/ipfs/{file}")).with("range", format!("bytes={start}-{end}")).of(&gateway).await;
        assert_eq!(answer.status, 206);
        assert_eq!(answer.bytes(), &data[start..=end]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_whose_type_cannot_be_seen_is_served_all_the_same() {
    let store = Store::default();
    let data = pattern(3 * CHUNK);
    let file = store.file(&data, CHUNK);
    store.fail(&store.leaves(&file)[0], cairn_proto::content::ContentErrorKind::NotLocal);
    let answer = get(format!("/ipfs/{file}")).with("range", "bytes=2200-2201").of(&store.gateway()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (206, "application/octet-stream"));
    assert_eq!(answer.bytes(), &data[2200..=2201]);
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let store = Store::default();
    let named = store.file(b"<!doctype html><title>x</title>", 10);
    let directory =
        store.directory(&[("a.txt", store.raw("text")), ("page", named), ("sub", store.directory(&[]))]);
    let gateway = store.gateway();
    for target in [
        format!("/ipfs/{directory}/a.txt"),
        format!("/ipfs/{directory}/page"),
        format!("/ipfs/{directory}/"),
        format!("/ipfs/{directory}/sub/"),
        format!("/ipfs/{directory}/a.txt?format=raw"),
        format!("/ipfs/{directory}?format=car"),
        format!("/ipfs/{directory}"),
    ] {
        let whole = get(&target).of(&gateway).await;
        let head = get(&target).head().of(&gateway).await;
        assert_eq!((head.status, &head.headers), (whole.status, &whole.headers), "{target}");
        assert!(head.status.is_redirection() || head.bytes().is_empty(), "{target}");
    }
}

#[tokio::test]
async fn the_type_comes_from_the_name_then_from_the_content() {
    let store = Store::default();
    let page = store.raw("<!doctype html><p>");
    let directory =
        store.directory(&[("site.css", page), ("noname", page), ("data", store.raw("{\"a\":1}"))]);
    let gateway = store.gateway();
    for (target, expected) in [
        (format!("/ipfs/{directory}/site.css"), "text/css; charset=utf-8"),
        (format!("/ipfs/{directory}/noname"), "text/html"),
        (format!("/ipfs/{directory}/data"), "application/json"),
        (format!("/ipfs/{directory}/noname?filename=x.svg"), "image/svg+xml"),
        (format!("/ipfs/{page}"), "text/html"),
    ] {
        assert_eq!(get(&target).of(&gateway).await.header("content-type"), expected, "{target}");
    }
}

#[tokio::test]
async fn the_url_names_the_file_for_whoever_saves_it() {
    let store = Store::default();
    let directory = store.directory(&[("a.txt", store.raw("text"))]);
    let gateway = store.gateway();
    for (query, expected) in [
        ("", ""),
        ("?filename=b%20c.txt", "inline; filename=\"b c.txt\""),
        ("?filename=t%C3%A9st.txt", "inline; filename=\"t_st.txt\"; filename*=UTF-8''t%C3%A9st.txt"),
        ("?download=true", "attachment; filename=\"a.txt\""),
        ("?download=true&filename=b.txt", "attachment; filename=\"b.txt\""),
    ] {
        let answer = get(format!("/ipfs/{directory}/a.txt{query}")).of(&gateway).await;
        assert_eq!(answer.header("content-disposition"), expected, "{query}");
    }
}

#[tokio::test]
async fn the_probe_of_the_trustless_specification_is_answered_in_every_form() {
    // Source: trustless-gateway specification, "Capability probe": bafkqaaa is the empty identity CID.
    let store = Store::default();
    let gateway = store.gateway();
    let probe: Cid = "bafkqaaa".parse().unwrap();
    assert_eq!(probe, Cid::new_v1(RAW, Multihash::wrap(IDENTITY, b"").unwrap()));
    for target in ["/ipfs/bafkqaaa", "/ipfs/bafkqaaa?format=raw"] {
        let answer = get(target).of(&gateway).await;
        assert_eq!((answer.status.as_u16(), answer.bytes()), (200, &Bytes::new()), "{target}");
    }
    let answer = get("/ipfs/bafkqaaa?format=car").of(&gateway).await;
    assert_eq!(answer.bytes(), &crate::support::car_header(&probe));
}

#[tokio::test]
async fn a_symbolic_link_is_its_target() {
    // Source: gateway-conformance, TestGatewaySymlink.
    let store = Store::default();
    let directory = store.directory(&[("bar", store.symlink("foo")), ("foo", store.raw("x"))]);
    let answer = get(format!("/ipfs/{directory}/bar")).of(&store.gateway()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text(), answer.header("content-type")),
        (200, "foo", "inode/symlink")
    );
}
