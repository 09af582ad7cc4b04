//! Which representation of content a request asks for. Pure.
//!
//! Source: <https://specs.ipfs.tech/http-gateways/path-gateway/#format-request-query-parameter> (IPIP-523: the URL wins
//! over `Accept`), <https://specs.ipfs.tech/http-gateways/trustless-gateway/> (CAR options).

use cairn_proto::cid::{CBOR, DAG_CBOR, DAG_JSON, JSON};
use cairn_proto::content::{CarSelection, DagScope};
use http::{HeaderMap, header};

use crate::error::{Failure, Refusal};
use crate::request::Query;

/// A representation that a request can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Raw,
    Car,
    Tar,
    DagJson,
    DagCbor,
    Json,
    Cbor,
    IpnsRecord,
}

/// Name in a URL and media type of every format.
const FORMATS: [(Format, &str, &str); 8] = [
    (Format::Raw, "raw", "application/vnd.ipld.raw"),
    (Format::Car, "car", "application/vnd.ipld.car"),
    (Format::Tar, "tar", "application/x-tar"),
    (Format::DagJson, "dag-json", "application/vnd.ipld.dag-json"),
    (Format::DagCbor, "dag-cbor", "application/vnd.ipld.dag-cbor"),
    (Format::Json, "json", "application/json"),
    (Format::Cbor, "cbor", "application/cbor"),
    (Format::IpnsRecord, "ipns-record", "application/vnd.ipfs.ipns-record"),
];

impl Format {
    fn row(self) -> &'static (Self, &'static str, &'static str) {
        FORMATS.iter().find(|(format, ..)| *format == self).expect("every format has a row")
    }

    /// Name in a URL.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    /// Media type.
    pub(crate) fn media_type(self) -> &'static str {
        self.row().2
    }

    /// Whether a client can verify what it gets in this format.
    pub(crate) fn is_trustless(self) -> bool {
        matches!(self, Self::Raw | Self::Car | Self::IpnsRecord)
    }

    /// Whether programs also name this type in `Accept` out of habit, and take whatever comes.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::Json | Self::Cbor)
    }

    /// Whether a block of `codec` may be served in this format as it is. No codec is converted into another
    /// (IPIP-524); the plain types also stand for their linked siblings, as the conformance suite and boxo have it.
    pub(crate) fn fits(self, codec: u64) -> bool {
        match self {
            Self::DagJson => codec == DAG_JSON,
            Self::DagCbor => codec == DAG_CBOR,
            Self::Json => codec == JSON || codec == DAG_JSON,
            Self::Cbor => codec == CBOR || codec == DAG_CBOR,
            Self::Raw | Self::Car => true,
            Self::Tar | Self::IpnsRecord => false,
        }
    }

    /// The format in which a block of `codec` is served when none is asked for.
    pub(crate) fn of_codec(codec: u64) -> Option<Self> {
        match codec {
            JSON => Some(Self::Json),
            CBOR => Some(Self::Cbor),
            DAG_JSON => Some(Self::DagJson),
            DAG_CBOR => Some(Self::DagCbor),
            _ => None,
        }
    }
}

/// What a request asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The format, `None` for content as a browser shows it.
    pub(crate) format: Option<Format>,
    /// The `Accept` header alone chose it.
    pub(crate) by_accept: bool,
}

/// Reads `format` of the URL, else the first type of `Accept` that is one of ours.
pub(crate) fn choose(query: &Query, headers: &HeaderMap) -> Result<Choice, Refusal> {
    if let Some(name) = &query.format {
        let Some((format, ..)) = FORMATS.iter().find(|(_, known, _)| known == name) else {
            let known: Vec<_> = FORMATS.iter().map(|(_, name, _)| *name).collect();
            let message = format!("unknown format {name:?}; known are {}", known.join(", "));
            return Err(Refusal::new(Failure::Invalid, message));
        };
        return Ok(Choice { format: Some(*format), by_accept: false });
    }
    let format = accepted(headers).find_map(|(media_type, _)| {
        FORMATS.iter().find(|(.., known)| media_type.eq_ignore_ascii_case(known)).map(|(format, ..)| *format)
    });
    Ok(Choice { format, by_accept: format.is_some() })
}

/// Whether `Accept` names HTML, as browsers' navigations do.
pub(crate) fn accepts_html(headers: &HeaderMap) -> bool {
    accepts(headers, "text/html")
}

/// Whether `Accept` names a media type.
pub(crate) fn accepts(headers: &HeaderMap, wanted: &str) -> bool {
    accepted(headers).any(|(media_type, _)| media_type.eq_ignore_ascii_case(wanted))
}

/// The media types of `Accept` with their parameters, in the order written. Weights and wildcards do not matter here.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::ACCEPT)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|item| {
            let (media_type, parameters) = item.split_once(';').unwrap_or((item, ""));
            (media_type.trim(), parameters)
        })
}

/// How a CAR is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CarOptions(pub(crate) CarSelection);

impl CarOptions {
    /// Reads the options of the URL, and of `Accept` where the URL is silent.
    ///
    /// Only CARv1 is made, depth first; that is also a valid answer to `order=unk`.
    pub(crate) fn choose(query: &Query, headers: &HeaderMap) -> Result<Self, Refusal> {
        let parameters = accepted(headers)
            .find(|(media_type, _)| media_type.eq_ignore_ascii_case(Format::Car.media_type()))
            .map_or("", |(_, parameters)| parameters);
        let option = |of_url: &Option<String>, name: &str| {
            of_url.clone().or_else(|| parameter(parameters, name).map(str::to_owned))
        };
        one_of("car-version", option(&query.car_version, "version"), &["1"])?;
        one_of("car-order", option(&query.car_order, "order"), &["dfs", "unk"])?;
        let dups = one_of("car-dups", option(&query.car_dups, "dups"), &["n", "y"])?;
        Ok(Self(CarSelection { scope: scope(query)?, duplicates: dups.as_deref() == Some("y") }))
    }

    /// The media type with the options that hold.
    pub(crate) fn content_type(self) -> &'static str {
        if self.0.duplicates {
            "application/vnd.ipld.car; version=1; order=dfs; dups=y"
        } else {
            "application/vnd.ipld.car; version=1; order=dfs; dups=n"
        }
    }
}

fn parameter<'a>(parameters: &'a str, wanted: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"'))
    })
}

fn one_of(name: &str, value: Option<String>, known: &[&str]) -> Result<Option<String>, Refusal> {
    match value {
        Some(value) if !known.contains(&value.as_str()) => {
            let message = format!("unsupported {name} {value:?}; known are {}", known.join(", "));
            Err(Refusal::new(Failure::Invalid, message))
        }
        value => Ok(value),
    }
}

/// Reads `dag-scope` and `entity-bytes`; the second alone implies `entity` and means nothing to the other scopes.
fn scope(query: &Query) -> Result<DagScope, Refusal> {
    let bytes = query.entity_bytes.as_deref().map(entity_bytes).transpose()?;
    let entity = |bytes: Option<(i64, Option<i64>)>| {
        let (from, to) = bytes.unwrap_or((0, None));
        DagScope::Entity { from, to }
    };
    match query.dag_scope.as_deref() {
        None if bytes.is_some() => Ok(entity(bytes)),
        None | Some("all") => Ok(DagScope::All),
        Some("entity") => Ok(entity(bytes)),
        Some("block") => Ok(DagScope::Block),
        Some(other) => {
            let message = format!("unknown dag-scope {other:?}; known are block, entity, all");
            Err(Refusal::new(Failure::Invalid, message))
        }
    }
}

fn entity_bytes(text: &str) -> Result<(i64, Option<i64>), Refusal> {
    let parsed = text.split_once(':').and_then(|(from, to)| {
        let from: i64 = from.parse().ok()?;
        let to = if to == "*" { None } else { Some(to.parse::<i64>().ok()?) };
        Some((from, to))
    });
    // With both ends counted from the same side, it shows at once that nothing lies between them.
    match parsed {
        Some((from, Some(to))) if (from < 0) == (to < 0) && to < from => None,
        other => other,
    }
    .ok_or_else(|| {
        Refusal::new(Failure::Invalid, format!("invalid entity-bytes {text:?}: want from:to or from:*"))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(value).unwrap())])
    }

    fn query(text: &str) -> Query {
        Query::parse(Some(text)).unwrap()
    }

    #[test]
    fn the_url_wins_over_accept() {
        let choice = choose(&query("format=car"), &accept("application/vnd.ipld.raw")).unwrap();
        assert_eq!(choice, Choice { format: Some(Format::Car), by_accept: false });
    }

    #[test]
    fn the_first_known_type_of_accept_counts() {
        let choice =
            choose(&Query::default(), &accept("text/html, application/vnd.ipld.raw;q=0.1, application/json"))
                .unwrap();
        assert_eq!(choice, Choice { format: Some(Format::Raw), by_accept: true });
        let browser = accept("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
        assert_eq!(choose(&Query::default(), &browser).unwrap(), Choice::default());
        assert!(accepts_html(&browser));
        assert!(!accepts_html(&accept("*/*")));
    }

    #[test]
    fn an_unknown_format_is_refused() {
        assert_eq!(choose(&query("format=zip"), &HeaderMap::new()).unwrap_err().failure, Failure::Invalid);
    }

    #[test]
    fn no_codec_stands_for_another_but_plain_types_for_their_siblings() {
        // Source: IPIP-524 and gateway-conformance, TestCodecMismatchReturns406 and TestNativeDag.
        assert!(Format::DagJson.fits(DAG_JSON) && Format::Json.fits(DAG_JSON) && Format::Json.fits(JSON));
        assert!(Format::DagCbor.fits(DAG_CBOR) && Format::Cbor.fits(DAG_CBOR) && Format::Cbor.fits(CBOR));
        assert!(
            !Format::DagJson.fits(DAG_CBOR) && !Format::DagCbor.fits(DAG_JSON) && !Format::DagJson.fits(JSON)
        );
        assert!(!Format::DagJson.fits(cairn_proto::cid::DAG_PB));
    }

    #[test]
    fn scopes_and_entity_bytes_are_read_as_the_specification_says() {
        let scope = |text| CarOptions::choose(&query(text), &HeaderMap::new()).map(|options| options.0.scope);
        assert_eq!(scope("format=car"), Ok(DagScope::All));
        assert_eq!(scope("dag-scope=block"), Ok(DagScope::Block));
        assert_eq!(scope("dag-scope=entity"), Ok(DagScope::Entity { from: 0, to: None }));
        assert_eq!(scope("entity-bytes=5:*"), Ok(DagScope::Entity { from: 5, to: None }));
        assert_eq!(
            scope("dag-scope=entity&entity-bytes=-9999:-3"),
            Ok(DagScope::Entity { from: -9999, to: Some(-3) })
        );
        assert_eq!(
            scope("dag-scope=entity&entity-bytes=512:-256"),
            Ok(DagScope::Entity { from: 512, to: Some(-256) })
        );
        for bad in
            ["dag-scope=none", "entity-bytes=5", "entity-bytes=a:b", "entity-bytes=9:3", "entity-bytes=*:3"]
        {
            assert_eq!(scope(bad).unwrap_err().failure, Failure::Invalid, "{bad}");
        }
    }

    #[test]
    fn car_options_of_the_url_win_over_those_of_accept() {
        let with = |text, header: &str| {
            CarOptions::choose(&query(text), &accept(header)).map(|options| options.0.duplicates)
        };
        assert_eq!(with("", "application/vnd.ipld.car; version=1; order=unk; dups=n"), Ok(false));
        assert_eq!(with("car-dups=n", "application/vnd.ipld.car; dups=y"), Ok(false));
        assert_eq!(with("format=car", "application/vnd.ipld.car; dups=y"), Ok(true));
        assert_eq!(with("", "application/vnd.ipld.car;version=2").unwrap_err().failure, Failure::Invalid);
        assert_eq!(with("car-order=bfs", "*/*").unwrap_err().failure, Failure::Invalid);
    }
}
