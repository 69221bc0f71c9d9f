//! Recognises files that are not text by their first bytes.

/// Magic numbers of files that people pass as data by mistake.
const BEGINNINGS: [(&[u8], &str); 11] = [
    (
        b"PAR1",
        "Parquet, which is not supported; convert it to JSONL",
    ),
    (
        b"ARROW1",
        "Arrow, which is not supported; convert it to JSONL",
    ),
    (
        b"\xff\xff\xff\xff",
        "Arrow, which is not supported; convert it to JSONL",
    ),
    (b"\x1f\x8b", "compressed with gzip; decompress it first"),
    (b"PK\x03\x04", "a zip archive; extract the file first"),
    (
        b"\x28\xb5\x2f\xfd",
        "compressed with zstd; decompress it first",
    ),
    (b"BZh", "compressed with bzip2; decompress it first"),
    (b"\xfd7zXZ\0", "compressed with xz; decompress it first"),
    (
        b"SQLite format 3\0",
        "a SQLite database, which is not supported; export it as JSONL or CSV",
    ),
    (b"\xff\xfe", "UTF-16, not UTF-8; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16, not UTF-8; save it as UTF-8"),
];

/// What kind of file it is, if not UTF-8 text.
pub(crate) fn not_text(bytes: &[u8]) -> Option<&'static str> {
    let known = BEGINNINGS.iter().find(|(b, _)| bytes.starts_with(b));
    known.map(|(_, what)| *what).or_else(|| {
        // UTF-16 without a byte order mark: every other byte of ASCII text is 0.
        let start = &bytes[..bytes.len().min(64)];
        let zeros = |odd: usize| {
            let bytes = start.iter().skip(odd).step_by(2);
            start.len() >= 4 && bytes.clone().all(|b| *b == 0)
        };
        (zeros(0) != zeros(1)).then_some("UTF-16, not UTF-8; save it as UTF-8")
    })
}

/// The line, from 1, with the first byte that is not valid UTF-8.
pub(crate) fn broken_line(bytes: &[u8]) -> Option<usize> {
    let at = std::str::from_utf8(bytes).err()?.valid_up_to();
    Some(1 + bytes[..at].iter().filter(|b| **b == b'\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        let utf16: Vec<u8> = "{\"text\":"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (bytes, wanted) in [
            (&b"PAR1\0\0"[..], Some("Parquet")),
            (b"\x1f\x8b\x08", Some("gzip")),
            (b"PK\x03\x04", Some("zip")),
            (b"\xff\xfe{\0", Some("UTF-16")),
            (&utf16, Some("UTF-16")),
            (b"{\"text\": \"a\"}", None),
            (b"", None),
        ] {
            let found = not_text(bytes);
            assert_eq!(found.is_some(), wanted.is_some(), "{bytes:?}");
            assert!(wanted.is_none_or(|w| found.unwrap().contains(w)));
        }
        assert_eq!(broken_line(b"a\nb\xff\n"), Some(2));
        assert_eq!(broken_line(b"a\n"), None);
    }
}
