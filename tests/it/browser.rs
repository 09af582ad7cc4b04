//! A real page in a real browser.

use cairn_tests::{Node, Scratch, Transport, browse};

/// Links with absolute paths, as real sites have them: they work only where the site is the root of a host.
const PAGE: &str = r#"<!doctype html><html><head><title>a site</title>
<link rel="stylesheet" href="/assets/style.css"></head>
<body><p id="text">plain</p><script src="/assets/script.js"></script></body></html>"#;
const STYLE: &str = "#text { color: rgb(1, 2, 3); }";
const SCRIPT: &str = "const text = document.getElementById('text');
text.textContent = 'styled ' + getComputedStyle(text).color;";

#[test]
fn a_site_with_absolute_links_opens_in_a_browser_from_the_network_over_https() {
    let scratch = Scratch::new();
    let files = [("index.html", PAGE), ("assets/style.css", STYLE), ("assets/script.js", SCRIPT)];
    let site = scratch.site("site", &files);
    let (mut author, mut reader) = (Node::cairn(), Node::cairn());
    author.start();
    reader.start();
    reader.connect(&author, Transport::Tcp);
    let cid = author.add(&site);
    let port = reader.port("Gateway (HTTPS)");
    let url = format!("https://{cid}.ipfs.localhost:{port}/");
    let Some(page) = browse(&url, &reader.authority()) else { return };
    assert!(page.contains(r#"<p id="text">styled rgb(1, 2, 3)</p>"#), "{page}");
}
