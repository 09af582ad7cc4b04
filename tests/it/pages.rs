//! The gateway's own pages, judged by axe-core in a real browser.

use cairn_tests::{Curl, Node, Scratch, audit};

/// How a browser asks.
const BROWSER: &str = "accept: text/html,application/xhtml+xml,*/*;q=0.8";

/// A CID that nobody has. Source: gateway-conformance, TestGatewayCache.
const NOWHERE: &str = "QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN";

#[test]
fn pages_are_accessible_in_light_and_in_dark() {
    let scratch = Scratch::new();
    let site = scratch.site("site", &[("a/b.txt", "b"), ("a name with spaces & signs.txt", "c")]);
    let mut node = Node::cairn();
    let cid = node.add(&site);
    node.start();
    let gateway = format!("http://127.0.0.1:{}", node.port("Gateway server"));
    for (path, status) in [
        ("/".to_owned(), 200),
        (format!("/ipfs/{cid}/"), 200),
        (format!("/ipfs/{cid}/a/"), 200),
        (format!("/ipfs/{cid}/missing"), 404),
        ("/ipfs/nonsense".to_owned(), 400),
        (format!("/ipfs/{NOWHERE}"), 202),
    ] {
        let browser = ["--header", BROWSER, "--header", "sec-fetch-dest: document"];
        let page = Curl::get(&format!("{gateway}{path}")).with(&browser).body(status);
        let page = String::from_utf8(page).expect("pages are text");
        let dark = page.replace("@media (prefers-color-scheme:dark)", "@media all");
        assert_ne!(page, dark, "{path} has a dark side");
        for page in [page, dark] {
            let Some(found) = audit(&page) else { return };
            assert!(found.is_empty(), "{path}: {found:#?}");
        }
    }
}
