//! Records made by others.

use multibase::Base;

use super::*;

/// Source: gateway-conformance v0.13.2, `fixtures/ipns_records`, and what its README says of each.
const V1_V2: (&str, &str) = (
    "k51qzi5uqu5dlkw8pxuw9qmqayfdeh4kfebhmreauqdc6a7c3y7d5i9fi8mk9w",
    "CiEvaXBmcy9iYWZrcWFkZHdnZXZ4bW1yYW9qc3dnMzNzbXESQKVBIW5AlouMwTkDk422cy5V72gCzuZl1kXeBsRUqu/PBlR1C8hO\
        m0ElCzXk1B2lOcWlQn/DDgjclKS9yoAD+A4YACIbMjEyMy0wOC0xNFQxMjoxNzowMy42OTQwNTJaKAAwgKDxwrE0QkBKUbhkQ4lL\
        69MhRgLsLDYnDkzQUIpmbfo1VmDE+ouikK595E12q1LEc585fnFBl05qQaA5gBJgz9PAWwBqSiUNSnWlY1RUTBsAAAGjGFxQAGVW\
        YWx1ZVghL2lwZnMvYmFma3FhZGR3Z2V2eG1tcmFvanN3ZzMzc21xaFNlcXVlbmNlAGhWYWxpZGl0eVgbMjEyMy0wOC0xNFQxMjox\
        NzowMy42OTQwNTJabFZhbGlkaXR5VHlwZQA",
);
const V2_ONLY: (&str, &str) = (
    "k51qzi5uqu5dit2ku9mutlfgwyz8u730on38kd10m97m36bjt66my99hb6103f",
    "QkBqdphYXisXBwnUlH4UixixINdttDUV7azykN+Wtx4pwMpaFlECVoFPglVTLsRUmt4m9MqDNfTEHiz//rG6CqUBSnilY1RUTBsA\
        AAGjGFxQAGVWYWx1ZVgkL2lwZnMvYmFma3FhZHR3Z2l3dzYzdG1wZXFoZXpsZG41emdpaFNlcXVlbmNlAGhWYWxpZGl0eVgbMjEy\
        My0wOC0xNFQxMjoxNzowMy42OTQwNTJabFZhbGlkaXR5VHlwZQA",
);
const BROKEN_SIGNATURE_V1: (&str, &str) = (
    "k51qzi5uqu5dilgf7gorsh9vcqqq4myo6jd4zmqkuy9pxyxi5fua3uf7axph4y",
    "Cj4vaXBmcy9iYWZrcWFodHdnZXZ4bW1yYW81dXhpMmJhbWp6ZzYyM2ZueXFoZzJsaG56cXhpNWxzbXVxaG1taRINaW52YWxpZCBz\
        dHVmZhgAIhsyMTIzLTA4LTE0VDEyOjE3OjAzLjY5NDA1MlooADCAoPHCsTRCQDLFjmqubpaOcNifMaGgsU4Y4TI9ntYayJtdlEdh\
        eA53tItrCas+sbT2FGBrVVN7WKWsZ0MoMtVkmY2EfQcctQdKkgGlY1RUTBsAAAGjGFxQAGVWYWx1ZVg+L2lwZnMvYmFma3FhaHR3\
        Z2V2eG1tcmFvNXV4aTJiYW1qemc2MjNmbnlxaGcybGhuenF4aTVsc211cWhtbWloU2VxdWVuY2UAaFZhbGlkaXR5WBsyMTIzLTA4\
        LTE0VDEyOjE3OjAzLjY5NDA1MlpsVmFsaWRpdHlUeXBlAA",
);
const BROKEN_SIGNATURE_V2: (&str, &str) = (
    "k51qzi5uqu5diamp7qnnvs1p1gzmku3eijkeijs3418j23j077zrkok63xdm8c",
    "Cj4vaXBmcy9iYWZrcWFodHdnZXZ4bW1yYW81dXhpMmJhbWp6ZzYyM2ZueXFoZzJsaG56cXhpNWxzbXVxaG1tcRJAjeL4ntt0Kd9X\
        5BfMb++Z7bEZ+L8j7WOJaj+QQiozOFuYgAqzqC9w2nBK2vbqHnAfH+NP9Q/Ileo6ZHXiHEGeARgAIhsyMTIzLTA4LTE0VDEyOjE3\
        OjAzLjY5NDA1MlooADCAoPHCsTRCDWludmFsaWQgc3R1ZmZKkgGlY1RUTBsAAAGjGFxQAGVWYWx1ZVg+L2lwZnMvYmFma3FhaHR3\
        Z2V2eG1tcmFvNXV4aTJiYW1qemc2MjNmbnlxaGcybGhuenF4aTVsc211cWhtbXFoU2VxdWVuY2UAaFZhbGlkaXR5WBsyMTIzLTA4\
        LTE0VDEyOjE3OjAzLjY5NDA1MlpsVmFsaWRpdHlUeXBlAA",
);
const BROKEN_VALUE_V1: (&str, &str) = (
    "k51qzi5uqu5dlmit2tuwdvnx4sbnyqgmvbxftl0eo3f33wwtb9gr7yozae9kpw",
    "CjYvaXBmcy9iYWZrcWFnbHVtdnp4aTJsb200cWdleWxlZWJ1eGEzdHRlYnpna3kzcG9qc2hnY3ESQE5taz3vFU7cTf9hDAOApkMy\
        WDc4w1nSfrC4qITpk9sInaYHbzEPiZUkcB2oWaNN5KvylXYVmxJC2vcUQyF5Zg4YACIbMjEyMy0wOC0xNFQxMjoxNzowMy42OTQw\
        NTJaKAAwgKDxwrE0QkBKnsu1f2ZA7v+BSXyxrVDYn0fn5RYCVmO+9gRgL4a26b88KvjUOkq6ZawaGybWDcL4UWMFXkfyBtZWBnt9\
        G7cESpIBpWNUVEwbAAABoxhcUABlVmFsdWVYPi9pcGZzL2JhZmtxYWh0d2dldnhtbXJhb2pzd2czM3NtcXFobzJsdW5hcWdlNHRw\
        bm5zdzRpZHdtZndoa3ppaFNlcXVlbmNlAGhWYWxpZGl0eVgbMjEyMy0wOC0xNFQxMjoxNzowMy42OTQwNTJabFZhbGlkaXR5VHlw\
        ZQA",
);
const V1_ONLY: (&str, &str) = (
    "k51qzi5uqu5dm4tm0wt8srkg9h9suud4wuiwjimndrkydqm81cqtlb5ak6p7ku",
    "CiQvaXBmcy9iYWZrcWFkdHdnZXd3NjN0bXBlcWhlemxkbjV6Z2kSQEedeyjkXQBKsjSpBHyB4WYPVA08/XHiF0otM9qhLtisJiyM\
        fGugifOkdR/TsGt758s6VBgUerTul2quBszrWAcYACIbMjEyMy0wOC0xNFQxMjoxNzowMy42OTQwNTJaKAAwgKDxwrE0",
);

/// Source: the same, `fixtures/subdomain_gateway`: a name of an RSA key, which is in the record.
const RSA: (&str, &str) = (
    "QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3",
    "CkEvaXBmcy9iYWZrcmVpY3lzZzIza2l3djM0ZWcyZDdxd2VpcHh3b3NkbzJweTRsZHY0Mm5iYXVndWx1ZW41djZhbRKAAi/8eiJ0\
        lnuC25mcKUJCVhzGoH5Ozopono7J3X5WkvexkpsufUrkHs0iyOdEkQF1cG990GHdhglu/kgLk5OStncH8uu8Q/4WBtepiaAHBHbj\
        JyeOwPFLSwatQcHb/I09TmyXD6wHFioaO/fDJUwlaNAz8IhZuXHNwEQaJ4AckpmwT12i3Z9uOEoKzDnJ94qt/nR16BphKmnbJTQj\
        ctmZpMsJKSXxB54j/xhEd0kwBwO7e7yuHxFuo+4ygMFWP/ZCKwFe4NBzolNapekP3XI4UlBsFLeuExjdv95t/wCJGXqoLQ0gKoCJ\
        E80FGXVDLKtsxAU/TZ5ev7aIy3aEyB7dYGoYACIbMjEyMy0wNC0xMlQxMzo0Mzo1Ny4yMzgwMzhaKAAwgICMo4Dg4OUrOqsCCAAS\
        pgIwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQDZmqKKCK0zLK1+xUmjZIinmi6zQcyo4vEOmskg/X3yjOnbB/3p6x6l\
        oMoQ/j8hiwbi0O6XbDdQIDmKw8vMNciFZ8uYYWNNjG/GtmvMJO8jKa8hg3VDcTXuTpmqzMds+tWm1Z8Jt7inBlrOFO/o8VJvKaJl\
        K36nc8dJE9mYvW32M+dzJDn8Lq48VLZVDVJ2WHohed3WKUeb/EqRVXqlsFcNTCZjRb0BGmWqJ9SS/9eI0faOAeh9tV7hXC4PcPoB\
        43s7MZcl5Oc6O40HHvKH3ALy85LlsoH2zFzdw0jfBdQAY6sZkonIeQ6kzZXyzdrvL00Vgda5Op+Di8qFlYKjOJi/AgMBAAFCgAJ7\
        bPKxC11qHYb5OTMS/ElGkMpseP9KkddF7t9APyudq0QC9LEIfP6uTxssAR9S8DcpjJ+Ch+U4eTAr25tEJWvFWRfbqctzL5avjYy4\
        0SG3JC4+oGwM1AP+Ob7jIwm9gEqXQIalVWlQuOc4Bl6aZ+KfrZsGyh3aqBYUemBxLYjmVRNp2vMJLmE4PMYfuZG9JoT0SoFT3GIW\
        Pw6Y3qP1IMyTP597KzZCJFWSmTphQPmEa2hG1pS9ntoU3O+FVup0xF8AoccsGNpVJDBcY0M/6vQWCpufbt4Z26HpZ9gvA7zjmfoc\
        B7GhNJo/eYTnC/WeEt9fgoXyPrnqFyiV1fLiAhA6SpUBpWNUVEwbK8uDAARjAABlVmFsdWVYQS9pcGZzL2JhZmtyZWljeXNnMjNr\
        aXd2MzRlZzJkN3F3ZWlweHdvc2RvMnB5NGxkdjQybmJhdWd1bHVlbjV2NmFtaFNlcXVlbmNlAGhWYWxpZGl0eVgbMjEyMy0wNC0x\
        MlQxMzo0Mzo1Ny4yMzgwMzhabFZhbGlkaXR5VHlwZQA",
);

fn bytes((_, record): (&str, &str)) -> Bytes {
    Base::Base64.decode(record).unwrap().into()
}

fn verify(vector: (&str, &str)) -> Result<Record, RecordError> {
    Record::verify(&Name::parse(vector.0).unwrap(), bytes(vector))
}

#[test]
fn valid_records_say_where_their_name_leads() {
    for vector in [V1_V2, V2_ONLY, BROKEN_SIGNATURE_V1] {
        let record = verify(vector).unwrap();
        assert!(record.path().unwrap().to_string().starts_with("/ipfs/bafkqa"), "{record:?}");
        assert_eq!((record.sequence(), record.ttl()), (0, Duration::from_secs(1800)));
        assert_eq!(record.bytes(), &bytes(vector));
    }
    assert!(verify(RSA).unwrap().path().unwrap().to_string().starts_with("/ipfs/bafk"));
}

#[test]
fn invalid_records_are_refused() {
    let name = |vector: (&str, &str)| Name::parse(vector.0).unwrap();
    assert_eq!(verify(V1_ONLY), Err(RecordError::Malformed("no signature of the second version")));
    assert_eq!(
        verify(BROKEN_VALUE_V1),
        Err(RecordError::Malformed("its two versions contradict each other"))
    );
    let signature = RecordError::Signature { name: name(BROKEN_SIGNATURE_V2) };
    assert_eq!(verify(BROKEN_SIGNATURE_V2), Err(signature));
}

#[test]
fn a_record_of_another_name_is_refused() {
    let other = Name::parse(V2_ONLY.0).unwrap();
    assert_eq!(Record::verify(&other, bytes(V1_V2)), Err(RecordError::Signature { name: other }));
    assert_eq!(Record::verify(&other, bytes(RSA)), Err(RecordError::Key { name: other }));
    let rsa = Name::parse(RSA.0).unwrap();
    assert_eq!(Record::verify(&rsa, bytes(V1_V2)), Err(RecordError::Key { name: rsa }));
}

#[test]
fn every_changed_bit_of_the_signed_bytes_is_found() {
    let name = Name::parse(V2_ONLY.0).unwrap();
    let whole = bytes(V2_ONLY);
    for at in 0..whole.len() {
        let mut changed = whole.to_vec();
        changed[at] ^= 1;
        assert!(Record::verify(&name, changed.into()).is_err(), "{at}");
    }
    for len in 0..whole.len() {
        assert!(Record::verify(&name, whole.slice(..len)).is_err(), "{len}");
    }
}

#[test]
fn a_record_of_the_limit_passes_and_one_byte_more_fails() {
    // An unknown field of protobuf fills it up: number 15, of two bytes for its tag and length.
    let name = Name::parse(V2_ONLY.0).unwrap();
    let filled = |len: usize| {
        let mut record = bytes(V2_ONLY).to_vec();
        let body = len - record.len() - 3;
        record.push(0x7a);
        record.extend_from_slice(unsigned_varint::encode::usize(
            body,
            &mut unsigned_varint::encode::usize_buffer(),
        ));
        record.resize(len, 0);
        Record::verify(&name, record.into())
    };
    assert!(filled(MAX_IPNS_RECORD_BYTES).is_ok());
    let len_bytes = MAX_IPNS_RECORD_BYTES + 1;
    assert_eq!(filled(len_bytes), Err(RecordError::TooLarge { len_bytes }));
}

#[test]
fn a_record_is_fresh_for_its_time_to_live_and_never_past_its_end() {
    let record = verify(V2_ONLY).unwrap();
    let before_end = |seconds| record.expires() - Duration::from_secs(seconds);
    assert_eq!(record.fresh_for(before_end(10_000)), Some(Duration::from_secs(1800)));
    assert_eq!(record.fresh_for(before_end(60)), Some(Duration::from_secs(60)));
    assert_eq!(record.fresh_for(record.expires()), None);
}

#[test]
fn more_changes_win_and_then_a_later_end() {
    let record = verify(V2_ONLY).unwrap();
    let newer = Record { sequence: 1, expires: SystemTime::UNIX_EPOCH, ..record.clone() };
    let longer = Record { expires: record.expires + Duration::from_secs(1), ..record.clone() };
    assert_eq!(newer.order(&record), Ordering::Greater);
    assert_eq!(newer.order(&longer), Ordering::Greater);
    assert_eq!(longer.order(&record), Ordering::Greater);
    assert_eq!(record.order(&record), Ordering::Equal);
}
