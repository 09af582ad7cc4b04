//! Directories: index.html in place, listings, and the slash behind them.

use cairn_proto::content::ContentErrorKind;
use cairn_proto::unixfs::import::ImportOptions;

use crate::support::{Store, get, options};

/// A directory as in gateway-conformance's `dir_listing` fixture.
fn polish(store: &Store) -> (cairn_proto::cid::Cid, cairn_proto::cid::Cid) {
    let file = store.raw("I am a txt file in confusing /api dir\n");
    let inner = store.directory(&[("file-źł.txt", file)]);
    (store.directory(&[("ą", store.directory(&[("ę", inner)]))]), file)
}

#[tokio::test]
async fn a_directory_without_its_slash_moves_to_the_one_with_it() {
    // Source: gateway-conformance, TestUnixFSDirectoryListing and …OnSubdomainGateway.
    let store = Store::default();
    let (root, _) = polish(&store);
    let gateway = store.gateway();
    let answer = get(format!("/ipfs/{root}/%c4%85/%c4%99?a=b%2F")).of(&gateway).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (301, &*format!("/ipfs/{root}/%C4%85/%C4%99/?a=b%2F"))
    );
    let answer = get("/%C4%85/%C4%99").host(format!("{root}.ipfs.localhost:8080")).of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (301, "/%C4%85/%C4%99/"));
    let answer = get(format!("/ipfs/{root}?go-get=1")).of(&gateway).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_listing_has_the_markup_that_the_suite_looks_for() {
    // Source: gateway-conformance, TestUnixFSDirectoryListing.
    let store = Store::default();
    let (root, file) = polish(&store);
    let answer = get(format!("/ipfs/{root}/%C4%85/%C4%99/")).of(&store.gateway()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/html; charset=utf-8"));
    for wanted in [
        "Index of".to_owned(),
        format!(
            "/ipfs/<a href=\"/ipfs/{root}\">{root}</a>/<a href=\"/ipfs/{root}/%C4%85\">ą</a>/<a href=\"/ipfs/{root}/%C4%85/%C4%99\">ę</a>"
        ),
        format!("<a href=\"/ipfs/{root}/%C4%85/%C4%99/..\">..</a>"),
        format!("<a href=\"/ipfs/{root}/%C4%85/%C4%99/file-%C5%BA%C5%82.txt\">file-źł.txt</a>"),
        format!(
            "<a class=\"ipfs-hash\" translate=\"no\" href=\"/ipfs/{file}?filename=file-%25C5%25BA%25C5%2582.txt\">"
        ),
    ] {
        assert!(answer.text().contains(&wanted), "no {wanted} in {}", answer.text());
    }
    let answer = get(format!("/ipfs/{root}/")).of(&store.gateway()).await;
    assert!(!answer.text().contains("..</a>"), "the root has no parent");
}

#[tokio::test]
async fn a_listing_on_its_own_host_links_within_its_origin() {
    // Source: gateway-conformance, TestUnixFSDirectoryListingOnSubdomainGateway.
    let store = Store::default();
    let (root, file) = polish(&store);
    let host = format!("{root}.ipfs.localhost:8080");
    let answer = get("/%C4%85/%C4%99/").host(&host).of(&store.gateway()).await;
    for wanted in [
        "<a href=\"/%C4%85/%C4%99/..\">..</a>".to_owned(),
        format!(
            "/ipfs/<a href=\"//localhost:8080/ipfs/{root}\">{root}</a>/<a href=\"//localhost:8080/ipfs/{root}/%C4%85\">ą</a>/<a href=\"//localhost:8080/ipfs/{root}/%C4%85/%C4%99\">ę</a>"
        ),
        "<a href=\"/%C4%85/%C4%99/file-%C5%BA%C5%82.txt\">file-źł.txt</a>".to_owned(),
        format!(
            "<a class=\"ipfs-hash\" translate=\"no\" href=\"//localhost:8080/ipfs/{file}?filename=file-%25C5%25BA%25C5%2582.txt\">"
        ),
    ] {
        assert!(answer.text().contains(&wanted), "no {wanted} in {}", answer.text());
    }
    assert!(!get("/").host(&host).of(&store.gateway()).await.text().contains("..</a>"));
}

#[tokio::test]
async fn a_listing_is_cached_for_a_week_under_a_tag_of_its_own() {
    // Source: gateway-conformance, TestGatewayCache.
    let store = Store::default();
    let (root, _) = polish(&store);
    let gateway = store.gateway();
    let answer = get(format!("/ipfs/{root}/%C4%85/")).of(&gateway).await;
    let etag = answer.header("etag");
    assert!(etag.starts_with("\"DirIndex-") && etag.contains("_CID-bafy"), "{etag}");
    assert_eq!(answer.header("cache-control"), "public, max-age=604800, stale-while-revalidate=2678400");
    assert_eq!(answer.header("x-ipfs-path"), format!("/ipfs/{root}/%C4%85/"));
    assert_eq!(answer.header("x-ipfs-roots").split(',').count(), 2);
    for tag in [etag.to_owned(), format!("W/{etag}")] {
        assert_eq!(
            get(format!("/ipfs/{root}/%C4%85/")).with("if-none-match", tag).of(&gateway).await.status,
            304
        );
    }
}

#[tokio::test]
async fn an_index_is_served_in_place_under_the_tag_of_its_directory() {
    let store = Store::default();
    let index = store.file(b"<html>hello</html>", 5);
    let site = store.directory(&[("index.html", index), ("style.css", store.raw("a{}"))]);
    let root = store.directory(&[("site", site)]);
    let gateway = store.gateway();
    let answer = get(format!("/ipfs/{root}/site/")).of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "<html>hello</html>"));
    assert_eq!(answer.header("content-type"), "text/html");
    assert_eq!(answer.header("etag"), format!("\"{site}\""));
    assert_eq!(answer.header("cache-control"), "public, max-age=29030400, immutable");
    assert_eq!(answer.header("x-ipfs-roots"), format!("{root},{site}"));
    let answer =
        get(format!("/ipfs/{root}/site/")).with("if-none-match", format!("\"{site}\"")).of(&gateway).await;
    assert_eq!(answer.status, 304);
    let answer = get(format!("/ipfs/{root}/site/")).with("range", "bytes=6-10").of(&gateway).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (206, "hello"));
}

#[tokio::test]
async fn an_index_that_is_no_file_is_422() {
    let store = Store::default();
    let site = store.directory(&[("index.html", store.directory(&[]))]);
    assert_eq!(get(format!("/ipfs/{site}/")).of(&store.gateway()).await.status, 422);
}

#[tokio::test]
async fn an_index_that_cannot_be_had_is_not_hidden_by_a_listing() {
    let store = Store::default();
    let index = store.raw("<html>");
    let site = store.directory(&[("index.html", index)]);
    store.fail(&index, ContentErrorKind::NotLocal);
    let answer = get(format!("/ipfs/{site}/")).of(&store.gateway()).await;
    assert_eq!(answer.status, 404);
    assert!(!answer.text().contains("Index of"));
}

#[tokio::test]
async fn markup_in_names_is_text() {
    let store = Store::default();
    let name = "<script>alert(1)<script>\" onclick='x'&amp;.txt";
    let root = store.directory(&[(name, store.raw("x"))]);
    let answer = get(format!("/ipfs/{root}/")).of(&store.gateway()).await;
    assert!(!answer.text().contains("<script>") && !answer.text().contains("onclick='"), "{}", answer.text());
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn a_sharded_directory_is_listed_whole_without_touching_its_children() {
    let store = Store::default();
    let child = store.raw("x");
    store.lose(&child);
    let names: Vec<String> = (0..3000).map(|number| format!("entry-{number}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), child)).collect();
    let sharded = ImportOptions { hamt_threshold_bytes: 1, ..options() };
    let root = store.directory_with(&entries, sharded);
    let answer = get(format!("/ipfs/{root}/")).of(&store.gateway()).await;
    assert_eq!(answer.text().matches("class=\"ipfs-hash\"").count(), 3000);
    assert!(answer.text().contains("3000 entries"));
}

#[tokio::test]
async fn an_empty_directory_says_so() {
    let store = Store::default();
    let root = store.directory(&[]);
    assert!(
        get(format!("/ipfs/{root}/")).of(&store.gateway()).await.text().contains("This directory is empty")
    );
}
