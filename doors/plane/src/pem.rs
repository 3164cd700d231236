//! PEM (RFC 7468), one block at a time.

use crate::trouble::Trouble;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Reads the one block of a text, whose label must be among `labels`.
///
/// # Errors
/// What is wrong with the text.
pub fn decode(text: &str, labels: &[&str]) -> Result<Vec<u8>, Trouble> {
    let wanted = labels.join(" or ");
    let refuse = |what: &str| {
        Trouble::refused(
            "pem-refused",
            format!("{what}; send one PEM block labelled {wanted}"),
        )
    };
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let label = lines
        .by_ref()
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or_else(|| refuse("there is no PEM block"))?;
    // OpenSSL before 1.0 wrote NEW CERTIFICATE REQUEST.
    if !labels.contains(&label.trim_start_matches("NEW ")) {
        return Err(refuse("the PEM block is something else"));
    }
    let end = format!("-----END {label}-----");
    let mut base64 = String::with_capacity(text.len());
    for line in lines.by_ref() {
        if line == end {
            return match lines.next() {
                None => STANDARD
                    .decode(&base64)
                    .map_err(|_| refuse("the base64 is not valid")),
                Some(_) => Err(refuse("there is more than one PEM block")),
            };
        }
        base64.push_str(line);
    }
    Err(refuse("the PEM block has no end"))
}

/// Reads every block of a text, each labelled `label`, up to `most` of them. Text between blocks
/// (as OpenSSL writes it) is passed over.
///
/// # Errors
/// What is wrong with the text.
pub fn decode_all(text: &str, label: &str, most: usize) -> Result<Vec<Vec<u8>>, Trouble> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, block)) = rest.split_once(&begin) {
        let Some((inside, after)) = block.split_once(&end) else {
            return Err(Trouble::refused("pem-refused", "a PEM block has no end"));
        };
        if blocks.len() >= most {
            let what = format!("there are more than {most} PEM blocks");
            return Err(Trouble::refused("pem-refused", what));
        }
        blocks.push(decode(&format!("{begin}{inside}{end}"), &[label])?);
        rest = after;
    }
    if rest.contains("-----BEGIN ") {
        let what = format!("a PEM block is something else; send {label} alone");
        return Err(Trouble::refused("pem-refused", what));
    }
    Ok(blocks)
}

#[must_use]
pub fn encode(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    // The base64, a newline for each of its lines, and the two lines around it.
    let bytes = base64.len() + base64.len() / 64 + 2 * (label.len() + 18);
    let mut pem = String::with_capacity(bytes);
    for part in ["-----BEGIN ", label, "-----\n"] {
        pem.push_str(part);
    }
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    for part in ["-----END ", label, "-----\n"] {
        pem.push_str(part);
    }
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let der: Vec<u8> = (0..=200).collect();
        let pem = encode("CERTIFICATE", &der);
        assert_eq!(decode(&pem, &["CERTIFICATE"]).unwrap(), der);
        assert_eq!(
            decode(&format!("\r\n{pem}\r\n"), &["CERTIFICATE"]).unwrap(),
            der
        );
        for bad in [
            String::new(),
            encode("PRIVATE KEY", &der),
            pem.repeat(2),
            pem.replace("-----END", "----END"),
            pem.replace('A', "*"),
        ] {
            assert!(decode(&bad, &["CERTIFICATE"]).is_err(), "{bad}");
        }
    }
}
