//! The file `_redirects` of a site: rules for paths that the site does not have. Pure.
//!
//! Source: <https://specs.ipfs.tech/http-gateways/web-redirects-file/>.

use http::StatusCode;

/// Name of the file, in the root of a site.
pub(crate) const FILE_NAME: &str = "_redirects";

/// Largest file, in bytes. Source: the specification, §2.8.
pub(crate) const MAX_BYTES: u64 = 64 * 1024;

/// Statuses that a rule may have. Source: the specification, §2.4.
const STATUSES: [u16; 9] = [200, 301, 302, 303, 307, 308, 404, 410, 451];

/// What stands before every complaint about the file: the conformance suite looks for it.
const COMPLAINT: &str = "could not parse _redirects:";

/// The rules of a site, in their order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rules(Vec<Rule>);

#[derive(Debug, PartialEq, Eq)]
struct Rule {
    from: Vec<Part>,
    to: String,
    status: StatusCode,
}

/// What one segment of a path must be.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// This.
    Word(String),
    /// Anything, under this name.
    Any(String),
    /// This segment and all behind it, or nothing.
    Rest,
}

/// What to do for a path that the site does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Action {
    /// Where to go, or what to serve: a path of the site, or for a redirect also a URL; escaped, with its query.
    pub(crate) to: String,
    /// The status to answer with.
    pub(crate) status: StatusCode,
}

/// What is said of a file that is too large.
pub(crate) fn too_large() -> String {
    format!("{COMPLAINT} redirects file size cannot exceed {MAX_BYTES} bytes")
}

impl Rules {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong, for whoever published the site, with the number of the line.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, String> {
        if file.len() as u64 > MAX_BYTES {
            return Err(too_large());
        }
        let text = std::str::from_utf8(file).map_err(|_| format!("{COMPLAINT} it is not UTF-8"))?;
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let rules =
            lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(number, line)| {
                Rule::parse(line).map_err(|reason| format!("{COMPLAINT} line {number}: {reason}"))
            });
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    /// What the first rule says that matches the segments of a path. `query` is that of the request.
    pub(crate) fn find(&self, segments: &[String], query: Option<&str>) -> Option<Action> {
        self.0.iter().find_map(|rule| {
            let found = rule.matches(segments)?;
            Some(Action { to: rule.target(&found, query), status: rule.status })
        })
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self, String> {
        let mut fields = line.split_whitespace();
        let (Some(from), Some(to)) = (fields.next(), fields.next()) else {
            return Err("want a path, a target and a status or none".to_owned());
        };
        let status = match fields.next() {
            None => 301,
            Some(text) => text.parse().map_err(|_| format!("{text:?} is not a status"))?,
        };
        if fields.next().is_some() {
            return Err("want a path, a target and a status or none".to_owned());
        }
        if !STATUSES.contains(&status) {
            return Err(format!("status {status} is not supported"));
        }
        let is_redirect = (300..400).contains(&status);
        let is_url = to.starts_with("https://") || to.starts_with("http://");
        if !(to.starts_with('/') || is_redirect && is_url) {
            return Err(format!("the target {to:?} is neither a path from the root nor a URL to go to"));
        }
        let status = StatusCode::from_u16(status).expect("it is one of the list");
        Ok(Self { from: parts(from)?, to: to.to_owned(), status })
    }

    /// What the placeholders stand for, if the rule matches.
    fn matches<'a>(&'a self, segments: &[String]) -> Option<Vec<(&'a str, String)>> {
        let mut found = Vec::new();
        for (index, part) in self.from.iter().enumerate() {
            match (part, segments.get(index)) {
                (Part::Rest, _) => {
                    found.push(("splat", segments.get(index..).unwrap_or_default().join("/")));
                    return Some(found);
                }
                (Part::Word(word), Some(segment)) if word == segment => {}
                (Part::Any(name), Some(segment)) => found.push((name, segment.clone())),
                _ => return None,
            }
        }
        (self.from.len() == segments.len()).then_some(found)
    }

    /// The target with its placeholders filled in and the parameters of the request added.
    fn target(&self, found: &[(&str, String)], query: Option<&str>) -> String {
        let (path, own_query) = self.to.split_once('?').unwrap_or((&self.to, ""));
        let filled = path.split('/').map(|part| {
            let value =
                part.strip_prefix(':').and_then(|name| found.iter().find(|(known, _)| *known == name));
            match value {
                Some((_, value)) => {
                    value.split('/').map(crate::request::escape).collect::<Vec<_>>().join("/")
                }
                None => part.to_owned(),
            }
        });
        let path = filled.collect::<Vec<_>>().join("/");
        let query = merge(own_query, query.unwrap_or_default());
        if query.is_empty() { path } else { format!("{path}?{query}") }
    }
}

/// Reads the path of a rule. A star may stand for all of its last segment, a name with a colon for any of them.
fn parts(from: &str) -> Result<Vec<Part>, String> {
    let Some(path) = from.strip_prefix('/') else {
        return Err(format!("the path {from:?} does not start with a slash"));
    };
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut names = Vec::new();
    let mut parts = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        parts.push(match segment.strip_prefix(':') {
            _ if *segment == "*" && index + 1 == segments.len() => Part::Rest,
            _ if segment.contains('*') => {
                return Err(format!("a star may only be the last segment of the path {from:?}"));
            }
            Some(name) if names.contains(&name) => {
                return Err(format!("the placeholder :{name} stands twice in the path {from:?}"));
            }
            Some(name) => {
                names.push(name);
                Part::Any(name.to_owned())
            }
            None => {
                let word = percent_encoding::percent_decode_str(segment).decode_utf8();
                let word = word.map_err(|_| format!("the path {from:?} is not UTF-8 after decoding"))?;
                Part::Word(word.into_owned())
            }
        });
    }
    Ok(parts)
}

/// The parameters of a target and of a request; where both have one, that of the request counts.
fn merge(own: &str, of_request: &str) -> String {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let pairs = |query: &'_ str| {
        query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let of_request = pairs(of_request);
    let mut merged = pairs(own);
    merged.retain(|pair| of_request.iter().all(|other| name(other) != name(pair)));
    merged.extend(of_request);
    merged.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(rules: &str, path: &str, query: Option<&str>) -> Option<(u16, String)> {
        let segments: Vec<_> =
            path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
        let action = Rules::parse(rules.as_bytes()).unwrap().find(&segments, query)?;
        Some((action.status.as_u16(), action.to))
    }

    #[test]
    fn rules_do_what_the_specification_says() {
        // Source: the specification, its examples; gateway-conformance, TestRedirectsFileSupport.
        let rules = "# comment\r\n\r\n/home / 302\n/blog/my-post.php /blog/my-post\r\n/news/:year/:month/:date/:slug /blog/:year/:month/:date/:slug\n\
                     /splat/* /redirected-splat/:splat 301\n/gone/* /410.html 410\n/out https://example.com/:x\n/* /index.html 200";
        for (path, status, to) in [
            ("/home", 302, "/"),
            ("/home/", 302, "/"),
            ("/blog/my-post.php", 301, "/blog/my-post"),
            ("/news/2022/01/02/a b", 301, "/blog/2022/01/02/a%20b"),
            ("/splat/one/two.html", 301, "/redirected-splat/one/two.html"),
            ("/splat", 301, "/redirected-splat/"),
            ("/gone/x", 410, "/410.html"),
            ("/out", 301, "https://example.com/:x"),
            ("/news/2022/01/02", 200, "/index.html"),
            ("/", 200, "/index.html"),
        ] {
            assert_eq!(find(rules, path, None), Some((status, to.to_owned())), "{path}");
        }
        assert_eq!(find("/a /b", "/c", None), None);
        assert_eq!(find("", "/c", None), None);
    }

    #[test]
    fn the_parameters_of_the_visitor_win() {
        let rules = "/a /b?x=1&y=2";
        assert_eq!(find(rules, "/a", Some("y=3&z=4")), Some((301, "/b?x=1&y=3&z=4".to_owned())));
        assert_eq!(find(rules, "/a", None), Some((301, "/b?x=1&y=2".to_owned())));
    }

    #[test]
    fn what_a_rule_may_not_be_is_told_with_its_line() {
        for rule in [
            "/a",
            "/a /b 301!",
            "/a /b 500",
            "/a /b 301 x",
            "a /b",
            "/a b",
            "/a javascript:alert(1)",
            "/a https://example.com 200",
            "/*/a /b",
            "/a* /b",
            "/:x/:x /b",
        ] {
            let complaint = Rules::parse(format!("/ok /ok\n{rule}").as_bytes()).unwrap_err();
            assert!(complaint.starts_with("could not parse _redirects: line 2: "), "{rule}: {complaint}");
        }
        assert!(Rules::parse(b"\xff /b").is_err());
    }

    #[test]
    fn a_file_of_the_limit_passes_and_one_byte_more_fails() {
        let max = usize::try_from(MAX_BYTES).unwrap();
        assert!(Rules::parse(&vec![b'\n'; max]).is_ok());
        let complaint = Rules::parse(&vec![b'\n'; max + 1]).unwrap_err();
        assert!(complaint.contains("redirects file size cannot exceed"), "{complaint}");
    }
}
