//! Lists of TPMs, as a line that makes devices writes them.

use model::{Digest, SerialNumber};

/// The most rows in one list.
const ROWS_MAX: usize = 1_000_000;
/// Errors told at once.
const ERRORS_MAX: usize = 100;

/// Reads CSV with a head: `serial,endorsement_key_sha256`.
///
/// # Errors
/// Every line that is wrong, up to 100 of them; nothing of the list is taken then.
pub fn parse_list(text: &str) -> Result<Vec<(SerialNumber, Digest)>, Vec<String>> {
    let mut lines = (1..).zip(text.lines().map(str::trim_end));
    if lines.next().map(|(_, head)| head) != Some("serial,endorsement_key_sha256") {
        return Err(vec![
            "line 1: the head must be serial,endorsement_key_sha256".to_owned(),
        ]);
    }
    let (mut list, mut errors) = (Vec::new(), Vec::new());
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        if list.len() >= ROWS_MAX || errors.len() >= ERRORS_MAX {
            errors.push(format!(
                "line {number}: the list ends here: cut it into parts"
            ));
            break;
        }
        match row(line) {
            Ok(row) => list.push(row),
            Err(what) => errors.push(format!("line {number}: {what}")),
        }
    }
    if errors.is_empty() {
        Ok(list)
    } else {
        Err(errors)
    }
}

fn row(line: &str) -> Result<(SerialNumber, Digest), String> {
    let (serial, digest) = line
        .split_once(',')
        .ok_or("two values are needed, parted by a comma")?;
    let serial = SerialNumber::new(serial).map_err(|error| error.to_string())?;
    let digest = hex(digest).ok_or("the digest is not 64 digits of hex")?;
    Ok((serial, digest))
}

fn hex(text: &str) -> Option<Digest> {
    let mut digest = [0; 32];
    let digits = text.as_bytes().chunks_exact(2);
    if text.len() != 64 {
        return None;
    }
    for (to, pair) in digest.iter_mut().zip(digits) {
        let nibble = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
        let both = nibble(pair.first())? << 4 | nibble(pair.last())?;
        *to = u8::try_from(both).ok()?;
    }
    Some(Digest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_taken_whole_or_told_line_by_line() {
        let digest = "ab".repeat(32);
        let list = parse_list(&format!(
            "serial,endorsement_key_sha256\r\nSN1,{digest}\r\n\nSN2,{digest}\n"
        ));
        let row = |serial| (SerialNumber::new(serial).unwrap(), Digest([0xab; 32]));
        assert_eq!(list, Ok(vec![row("SN1"), row("SN2")]));
        let wrong = format!(
            "serial,endorsement_key_sha256\nSN1\nSN2,{digest}0\nSN3,+{}\n",
            &digest[1..]
        );
        let told = parse_list(&wrong).unwrap_err();
        assert_eq!(told.len(), 3);
        assert!(
            told.iter()
                .zip(2..)
                .all(|(told, line)| told.starts_with(&format!("line {line}: ")))
        );
        assert!(parse_list("").is_err());
        assert!(parse_list(&format!("SN1,{digest}\n")).is_err());
    }
}
