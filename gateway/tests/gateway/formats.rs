//! Raw blocks, codecs and CARs.

use cairn_proto::cid::{CBOR, DAG_CBOR, DAG_JSON, JSON};

use crate::support::{Store, car, get};

const RAW_TYPE: &str = "application/vnd.ipld.raw";

#[tokio::test]
async fn a_raw_block_is_what_the_store_holds() {
    // Source: gateway-conformance, TestTrustlessRaw and TestGatewayBlock.
    let store = Store::default();
    let file = store.raw("hello application/vnd.ipld.raw");
    let root = store.directory(&[("ascii.txt", file)]);
    let gateway = store.gateway();
    let by_url = get(format!("/ipfs/{root}?format=raw")).of(&gateway).await;
    assert_eq!(by_url.bytes(), store.peek(&root).unwrap().data());
    assert_eq!(by_url.header("vary"), "");
    let by_accept =
        get(format!("/ipfs/{root}/ascii.txt?filename=x%20y.bin")).with("accept", RAW_TYPE).of(&gateway).await;
    assert_eq!(by_accept.text(), "hello application/vnd.ipld.raw");
    for (name, expected) in [
        ("content-type", RAW_TYPE.to_owned()),
        ("content-length", "30".to_owned()),
        ("content-disposition", "attachment; filename=\"x y.bin\"".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("etag", format!("\"{file}.raw\"")),
        ("x-ipfs-path", format!("/ipfs/{root}/ascii.txt")),
        ("x-ipfs-roots", format!("{root},{file}")),
        ("cache-control", "public, max-age=29030400, immutable".to_owned()),
        ("vary", "Accept".to_owned()),
        ("content-location", format!("/ipfs/{root}/ascii.txt?format=raw&filename=x%20y.bin")),
    ] {
        assert_eq!(by_accept.header(name), expected, "{name}");
    }
    let part = get(format!("/ipfs/{file}?format=raw")).with("range", "bytes=6-16").of(&gateway).await;
    assert_eq!(
        (part.status.as_u16(), part.text(), part.header("content-range")),
        (206, "application", "bytes 6-16/30")
    );
    let unnamed = get(format!("/ipfs/{file}?format=raw")).of(&gateway).await;
    assert_eq!(unnamed.header("content-disposition"), format!("attachment; filename=\"{file}.bin\""));
}

#[tokio::test]
async fn blocks_of_other_codecs_are_served_under_their_own_names() {
    // Source: gateway-conformance, TestPlainCodec and TestNativeDag.
    let store = Store::default();
    for (codec, data, format, plain, media_type, disposition, extension) in [
        (JSON, "{\"a\":1}", "json", "json", "application/json", "inline", "json"),
        (CBOR, "\x01", "cbor", "cbor", "application/cbor", "attachment", "cbor"),
        (DAG_JSON, "{\"a\":1}", "dag-json", "json", "application/vnd.ipld.dag-json", "inline", "json"),
        (DAG_CBOR, "\x01", "dag-cbor", "cbor", "application/vnd.ipld.dag-cbor", "attachment", "cbor"),
    ] {
        let cid = store.block(codec, data);
        let gateway = store.gateway();
        let asks = [
            get(format!("/ipfs/{cid}")),
            get(format!("/ipfs/{cid}?format={format}")),
            get(format!("/ipfs/{cid}")).with("accept", media_type),
        ];
        for ask in asks {
            let answer = ask.of(&gateway).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, data), "{format}");
            assert_eq!(answer.header("content-type"), media_type);
            assert_eq!(answer.header("etag"), format!("\"{cid}.{format}\""));
            assert_eq!(
                answer.header("content-disposition"),
                format!("{disposition}; filename=\"{cid}.{extension}\"")
            );
        }
        let answer = get(format!("/ipfs/{cid}?format={plain}")).of(&gateway).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, &*format!("application/{plain}"))
        );
        let answer = get(format!("/ipfs/{cid}?download=true")).of(&gateway).await;
        assert!(answer.header("content-disposition").starts_with("attachment; "));
        let answer = get(format!("/ipfs/{cid}")).with("range", "bytes=0-0").of(&gateway).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (206, &data[..1]));
    }
}

#[tokio::test]
async fn no_codec_is_converted_into_another() {
    // Source: IPIP-524; gateway-conformance, TestCodecMismatchReturns406.
    let store = Store::default();
    let file = store.file(b"plain text, in two blocks", 20);
    let (json, cbor) = (store.block(DAG_JSON, "{}"), store.block(DAG_CBOR, "\x01"));
    let gateway = store.gateway();
    for target in [
        format!("/ipfs/{file}?format=dag-json"),
        format!("/ipfs/{file}?format=dag-cbor"),
        format!("/ipfs/{file}?format=cbor"),
        format!("/ipfs/{file}?format=json"),
        format!("/ipfs/{json}?format=dag-cbor"),
        format!("/ipfs/{cbor}?format=dag-json"),
        format!("/ipfs/{cbor}?format=tar"),
    ] {
        assert_eq!(get(&target).of(&gateway).await.status, 406, "{target}");
    }
    assert_eq!(get(format!("/ipfs/{file}?format=zip")).of(&gateway).await.status, 400);
    let answer =
        get(format!("/ipfs/{cbor}")).with("accept", "application/vnd.ipld.dag-json").of(&gateway).await;
    assert_eq!(answer.status, 406);
}

#[tokio::test]
async fn a_file_of_json_may_be_asked_for_as_json() {
    // Source: gateway-conformance, TestGatewayJsonCbor.
    let store = Store::default();
    let file = store.file(b"{ \"hello\": \"world\" }\n", 5);
    let gateway = store.gateway();
    for ask in [
        get(format!("/ipfs/{file}?format=json")).with("accept", RAW_TYPE),
        get(format!("/ipfs/{file}")).with("accept", "application/json"),
    ] {
        let answer = ask.of(&gateway).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "{ \"hello\": \"world\" }\n"));
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn programs_that_would_like_json_get_what_is_there() {
    // Source: the default `Accept` of axios, which pages use to load anything.
    let store = Store::default();
    let page = store.raw("<!doctype html>");
    let site = store.directory(&[("index.html", page), ("link", store.symlink("index.html"))]);
    let gateway = store.gateway();
    for (path, media_type) in [("", "text/html"), ("index.html", "text/html"), ("link", "inode/symlink")] {
        let ask = get(format!("/ipfs/{site}/{path}")).with("accept", "application/json, text/plain, */*");
        let answer = ask.of(&gateway).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, media_type), "{path}");
        assert_eq!(answer.header("content-location"), "");
    }
}

#[tokio::test]
async fn a_path_that_ends_inside_a_block_is_501() {
    let store = Store::default();
    let cid = store.block(DAG_JSON, "{\"foo\":{\"bar\":1}}");
    let answer = get(format!("/ipfs/{cid}/foo?format=dag-json")).of(&store.gateway()).await;
    assert_eq!(answer.status, 501);
}

#[tokio::test]
async fn a_car_holds_the_blocks_of_the_path_and_what_is_below() {
    let store = Store::default();
    let file = store.raw("hello");
    let inner = store.directory(&[("a.txt", file), ("b.txt", file)]);
    let root = store.directory(&[("inner", inner), ("other", store.raw("not this"))]);
    let gateway = store.gateway();
    let answer = get(format!("/ipfs/{root}/inner?format=car")).of(&gateway).await;
    assert_eq!(answer.bytes(), &car(&inner, &store, &[root, inner, file]));
    for (name, expected) in [
        ("content-type", "application/vnd.ipld.car; version=1; order=dfs; dups=n".to_owned()),
        ("content-disposition", format!("attachment; filename=\"{inner}.car\"")),
        ("x-content-type-options", "nosniff".to_owned()),
        ("accept-ranges", "none".to_owned()),
        ("content-length", String::new()),
    ] {
        assert_eq!(answer.header(name), expected, "{name}");
    }
    let block = get(format!("/ipfs/{root}/inner?format=car&dag-scope=block")).of(&gateway).await;
    assert_eq!(block.bytes(), &car(&inner, &store, &[root, inner]));
    let (all_tag, block_tag) = (answer.header("etag"), block.header("etag"));
    assert!(
        all_tag.starts_with(&format!("W/\"{inner}.car.")) && all_tag != block_tag,
        "{all_tag} {block_tag}"
    );
    let again =
        get(format!("/ipfs/{root}/inner?format=car")).with("if-none-match", all_tag).of(&gateway).await;
    assert_eq!(again.status, 304);
}

#[tokio::test]
async fn bad_car_options_are_400() {
    let store = Store::default();
    let file = store.raw("hello");
    for options in ["dag-scope=nothing", "entity-bytes=x", "car-version=2", "car-order=bfs", "car-dups=maybe"]
    {
        let answer = get(format!("/ipfs/{file}?format=car&{options}")).of(&store.gateway()).await;
        assert_eq!(answer.status, 400, "{options}");
    }
}

#[tokio::test]
async fn a_tree_comes_as_an_archive() {
    let store = Store::default();
    let tree = store.directory(&[("a", store.raw("x"))]);
    let answer = get(format!("/ipfs/{tree}?format=tar")).of(&store.gateway()).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, &*format!("archive of {tree} called {tree}")));
    assert_eq!(answer.header("content-type"), "application/x-tar");
    assert_eq!(answer.header("etag"), format!("W/\"{tree}.x-tar\""));
    assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"{tree}.tar\""));
}

#[tokio::test]
async fn people_see_linked_data_as_a_page_and_programs_as_it_is() {
    let store = Store::default();
    let block = store.block(DAG_JSON, r#"{"a<b":[1,"<i>",null],"link":{"/":"bafkqaaa"}}"#);
    let page = get(format!("/ipfs/{block}/")).html().of(&store.gateway()).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("etag").contains("DagIndex-"), "{}", page.header("etag"));
    assert_eq!(page.header("content-disposition"), "");
    for part in ["a&lt;b", "“&lt;i&gt;”", r#"href="/ipfs/bafkqaaa">bafkqaaa</a>"#] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
    let as_it_is = get(format!("/ipfs/{block}")).of(&store.gateway()).await;
    assert_eq!(as_it_is.header("content-type"), "application/vnd.ipld.dag-json");
    let broken = store.block(DAG_CBOR, "\x18\x01");
    let page = get(format!("/ipfs/{broken}/")).html().of(&store.gateway()).await;
    assert!(page.text().contains("invalid dag-cbor"), "{}", page.text());
}
