//! Rules and what they match are those of `tester/test.deny` and `tester.go` of nopfs 0.0.14, the validator that the
//! specification names, and of the specification's own example.

use super::*;

const RULES: &str = "\
version: 1
name: \"Testing denylist\"
---
# by CID
/ipfs/bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq

/ipfs/QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8/*
/ipfs/Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test*
/ipfs/QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC/test/*
/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked*
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blockednot
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/not
!/ipfs/QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK/blocked/exceptions*
/ipns/domain.example
/ipns/domain2.example/path
/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf
//d9d295bde21f422d471a90f2a37ec53049fdf3e5fa3ee2e8f20e10003da429e7
//3f8b9febd851873b3774b937cce126910699ceac56e72e64b866f8e258d09572
//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM
//QmbK7LDv5NNBvYQzNfm2eED17SNLt1yNMapcUhSuNLgkqz
";

const DENY: Option<Verdict> = Some(Verdict::Deny(Reason::Unspecified));

fn read(text: &str) -> Denylist {
    let (list, errors) = try_read(text).unwrap();
    assert_eq!(errors, []);
    list
}

fn try_read(text: &str) -> Result<(Denylist, Vec<(u64, LineError)>), DenylistError> {
    let mut reader = Reader::new();
    reader.push(text.as_bytes())?;
    reader.finish()
}

fn path(list: &Denylist, path: &str) -> Option<Verdict> {
    // A list is asked about what a request holds, and requests with names of other hash functions are refused earlier.
    list.path(&ContentPath::parse(path).unwrap())
}

fn block(list: &Denylist, cid: &str) -> Option<Verdict> {
    list.block(&crate::cid::parse(cid).unwrap())
}

#[test]
fn a_rule_for_a_cid_holds_for_every_version_and_codec_and_not_below() {
    let list = read(RULES);
    for cid in [
        "bafybeihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq",
        "bafkreihvvulpp4evxj7x7armbqcyg6uezzuig6jp3lktpbovlqfkuqeuoq",
        "QmesfgDQ3q6prBy2Kg2gKbW4MAGuWiRP2DVuGA5MZSERLo",
    ] {
        assert_eq!(block(&list, cid), DENY, "{cid}");
        assert_eq!(path(&list, &format!("/ipfs/{cid}")), DENY, "{cid}");
        assert_eq!(path(&list, &format!("/ipfs/{cid}/sub")), None, "{cid}");
    }
}

#[test]
fn rules_with_a_star_hold_for_what_starts_so() {
    let list = read(RULES);
    for denied in [
        "QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8",
        "QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8/a/b",
        "QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8/z/",
        "Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test",
        "Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test2",
        "Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/test/one",
        "QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC/test",
        "QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC/test2",
        "QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC/test/one",
    ] {
        assert_eq!(path(&list, denied), DENY, "{denied}");
    }
    for other in [
        "Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2",
        "Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/tes",
        "Qmah2YDTfrox4watLCr3YgKyBwvjq8FJZEFdWY6WtJ3Xt2/one/test",
        "QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC",
        "QmTuvSQbEDR3sarFAN9kAeXBpiBCyYYNxdxciazBba11eC/tes",
    ] {
        assert_eq!(path(&list, other), None, "{other}");
    }
}

#[test]
fn the_last_rule_that_matches_wins() {
    let list = read(RULES);
    let root = "QmUboz9UsQBDeS6Tug1U8jgoFkgYxyYood9NDyVURAY9pK";
    for denied in ["blocked", "blocked2"] {
        assert_eq!(path(&list, &format!("{root}/{denied}")), DENY, "{denied}");
    }
    for allowed in
        ["blockednot", "blocked/not", "blocked/exceptions", "blocked/exceptions2", "blocked/exceptions/one"]
    {
        assert_eq!(path(&list, &format!("{root}/{allowed}")), Some(Verdict::Allow), "{allowed}");
    }
    // Source: the example of the specification: the exception comes too early.
    let list = read("!/ipns/my.domain\n/ipns/my.domain\n");
    assert_eq!(path(&list, "/ipns/my.domain"), DENY);
}

#[test]
fn names_are_denied_in_every_form_and_only_as_far_as_the_rule_says() {
    let list = read(RULES);
    for denied in [
        "/ipns/domain.example",
        "/ipns/DOMAIN.example.",
        "/ipns/domain-example",
        "/ipns/domain2.example/path",
        "/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf",
        "/ipns/bafzaajaiaejcaotjfs57kieazxny5japcmy5p2pgv2cic77tu6ogghttvurnrufx",
        "/ipns/12D3KooWDkNqEJNmreF3NYYFK1ws7Ra2fuW6cHBTu567SPV3LdYA",
    ] {
        assert_eq!(path(&list, denied), DENY, "{denied}");
    }
    for other in [
        "/ipns/domainaefa.example",
        "/ipns/domain.example/path",
        "/ipns/domain--example",
        "/ipns/domain2.example",
        "/ipns/domain2.example/path2",
        "/ipns/12D3KooWDkNqEJNmreF3NYYFK1ws7Ra2fuW6cHBTu567SPV3LdYA/path",
    ] {
        assert_eq!(path(&list, other), None, "{other}");
    }
}

#[test]
fn double_hashes_of_both_forms_are_matched() {
    let list = read(RULES);
    let old = "bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e";
    assert_eq!(block(&list, old), DENY);
    assert_eq!(path(&list, &format!("{old}/path")), DENY);
    assert_eq!(path(&list, &format!("{old}/path2")), None);
    for cid in [
        "bafybeidjwik6im54nrpfg7osdvmx7zojl5oaxqel5cmsz46iuelwf5acja",
        "QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR",
    ] {
        assert_eq!(block(&list, cid), DENY, "{cid}");
        assert_eq!(path(&list, cid), DENY, "{cid}");
    }
    let blake3 = "bafyb4ieqht3b2rssdmc7sjv2cy2gfdilxkfh7623nvndziyqnawkmo266a";
    for cid in [blake3, "f01701e20903cf61d46521b05f926ba1634628d0bba8a7ffb5b6d5a3ca310682ca63b5ef0"] {
        assert_eq!(path(&list, &format!("{cid}/path")), DENY, "{cid}");
        assert_eq!(path(&list, &format!("{cid}/path2")), None, "{cid}");
        assert_eq!(path(&list, cid), None, "{cid}");
    }
    // Source: the example of the specification, where BLAKE3 is the second hash.
    let list = read("//gW813G35CnLsy7gRYYHuf63hrz71U1xoLFDVeV7actx6oX\n");
    assert_eq!(path(&list, &format!("{blake3}/path")), DENY);
    assert_eq!(path(&list, &format!("{blake3}/path2")), None);
    // Source: the same; sha256 of "bad-domain-name.tld/".
    let list = read("//c555c4de78827ba42527dd3dc5398db38d6c0a8c345a88e0158b2d100f317e50\n");
    assert_eq!(path(&list, "/ipns/bad-domain-name.tld"), DENY);
    assert_eq!(path(&list, "/ipns/other.tld"), None);
}

#[test]
fn the_oldest_double_hashes_hold_under_every_codec() {
    let list = read(RULES);
    let hash =
        *crate::cid::parse("bafybeiefwqslmf6zyyrxodaxx4vwqircuxpza5ri45ws3y5a62ypxti42e").unwrap().hash();
    for codec in [RAW, DAG_PB, DAG_CBOR, DAG_JSON, CBOR, JSON] {
        assert_eq!(list.block(&Cid::new_v1(codec, hash)), DENY, "{codec:#x}");
    }
    // Any other codec, as git-raw (0x78), under its own CID.
    let git = Cid::new_v1(0x78, hash);
    let digest = HashFunction::Sha2_256.multihash(format!("{git}/").as_bytes());
    let hex: String = digest.digest().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(read(&format!("//{hex}\n")).block(&git), DENY);
}

#[test]
fn what_everybody_has_is_never_denied() {
    let rules: String = NEVER_DENIED.iter().map(|cid| format!("/ipfs/{cid}\n/ipfs/{cid}/*\n")).collect();
    let list = read(&rules);
    for cid in NEVER_DENIED {
        assert_eq!(block(&list, cid), None, "{cid}");
    }
}

#[test]
fn paths_of_rules_are_percent_encoded() {
    let list = read("/ipfs/QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8/a%20b/%C3%A4/\n");
    assert_eq!(path(&list, "/ipfs/QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8/a b/ä"), DENY);
}

#[test]
fn hints_of_a_rule_go_before_those_of_the_header() {
    let root = "/ipfs/QmdWFA9FL52hx3j9EJZPQP1ZUH8Ygi5tLCX2cRDs6knSf8";
    let legal = Some(Verdict::Deny(Reason::Legal));
    let list = read(&format!(
        "hints:\n  gateway_status: 451\n---\n{root}/a\n{root}/b gateway_status:410 x:y\n{root}/c x=y\n"
    ));
    assert_eq!(path(&list, &format!("{root}/a")), legal);
    assert_eq!(path(&list, &format!("{root}/b")), DENY);
    assert_eq!(path(&list, &format!("{root}/c")), legal);
    assert_eq!(path(&read(&format!("{root}/a gateway_status=451")), &format!("{root}/a")), legal);
}

#[test]
fn headers_may_be_missing_empty_or_full_of_other_things() {
    let rule = "/ipns/domain.example\n";
    for (text, name) in [
        (rule.to_owned(), None),
        (format!("---\n{rule}"), None),
        (format!("name: a\n---\n{rule}"), Some("a")),
        (
            format!(
                "# c\nversion: 1\nname: 'b: c'\ndescription: >\n  many\n  words: here\nother: 1\n---\r\n{rule}"
            ),
            Some("b: c"),
        ),
    ] {
        let list = read(&text);
        assert_eq!((list.name(), path(&list, "/ipns/domain.example")), (name, DENY), "{text}");
    }
    assert_eq!(try_read("version: 2\n---\n").unwrap_err(), DenylistError::Version("2".to_owned()));
    assert_eq!(try_read("no yaml\n---\n").unwrap_err(), DenylistError::Header("no yaml".to_owned()));
}

#[test]
fn lines_that_are_no_rules_are_left_out_and_told() {
    let text = "name: a\n---\n/ipfs/nothing\n/ipns/domain.example\n/other/x\n//abc\n";
    let (list, errors) = try_read(text).unwrap();
    let expected = [(3, LineError::NotACid), (5, LineError::NotARule), (6, LineError::NotAHash)];
    assert_eq!((errors.as_slice(), list.rule_count()), (expected.as_slice(), 1));
}

#[test]
fn a_list_read_in_pieces_is_the_same() {
    let whole = read(RULES);
    for piece_bytes in [1, 7, 64] {
        let mut reader = Reader::new();
        RULES.as_bytes().chunks(piece_bytes).for_each(|piece| reader.push(piece).unwrap());
        let (list, errors) = reader.finish().unwrap();
        assert_eq!(
            (errors, list.name(), &list.rules),
            (Vec::new(), whole.name(), &whole.rules),
            "{piece_bytes}"
        );
    }
}

#[test]
fn a_line_of_the_limit_passes_and_a_longer_one_is_refused() {
    // Source: the specification; the limit counts the end of the line.
    let line = |len: usize| format!("---\n#{}\n/ipns/domain.example\n", "x".repeat(len - 2));
    assert_eq!(read(&line(2 * 1024 * 1024)).rule_count(), 1);
    assert_eq!(try_read(&line(2 * 1024 * 1024 + 1)).unwrap_err(), DenylistError::LineTooLong { line: 2 });
}

#[test]
fn what_does_not_end_within_the_limit_is_no_header() {
    let comment = format!("#{}\n", "x".repeat(1000));
    let head = |bytes: usize| comment.repeat(bytes.div_ceil(comment.len())) + "/ipns/domain.example\n";
    let list = read(&head(1024 * 1024));
    assert_eq!(path(&list, "/ipns/domain.example"), DENY);
    let (list, errors) = try_read(&(head(1024 * 1024) + "---\n/ipns/domain2.example\n")).unwrap();
    assert_eq!((list.rule_count(), errors.len()), (2, 1), "the separator comes too late, and is no rule");
}
