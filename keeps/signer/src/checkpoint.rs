//! What the log's key may sign: one history, growing (C2SP tlog-checkpoint).

/// The highest checkpoint signed so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HighMark {
    pub size: u64,
    /// Origin, size and root as signed, each with its newline.
    pub text: String,
}

impl HighMark {
    /// Reads the text of a checkpoint: what precedes the blank line of its note, with the last
    /// newline.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn read(text: &str, origin: &str) -> Result<Self, &'static str> {
        read(text.as_bytes(), origin)
    }
}

/// Three lines and nothing else: origin, size in decimal, root in base64.
pub(crate) fn read(text: &[u8], origin: &str) -> Result<HighMark, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "a checkpoint is UTF-8")?;
    let body = text
        .strip_suffix('\n')
        .ok_or("a checkpoint ends with a newline")?;
    let mut lines = body.split('\n');
    let (Some(first), Some(size), Some(root), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err("a checkpoint has three lines: origin, size, root");
    };
    if first != origin {
        return Err("a checkpoint is of our own log (origin)");
    }
    let is_canonical = size == "0" || !size.starts_with('0');
    let is_decimal = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
    let number = size
        .parse::<u64>()
        .ok()
        .filter(|_| is_canonical && is_decimal)
        .ok_or("a checkpoint's size is a decimal number without leading zeros")?;
    if !is_base64_of_32_bytes(root) {
        return Err("a checkpoint's root is 32 bytes in base64");
    }
    Ok(HighMark {
        size: number,
        text: text.to_owned(),
    })
}

/// # Errors
/// If signing it would make a second history.
pub(crate) fn check_advance(
    highest: Option<&HighMark>,
    next: &HighMark,
) -> Result<(), &'static str> {
    match highest {
        Some(highest) if next.size < highest.size => {
            Err("a checkpoint is never smaller than the last one signed")
        }
        Some(highest) if next.size == highest.size && next.text != highest.text => {
            Err("a checkpoint of the same size has the same root")
        }
        _ => Ok(()),
    }
}

/// 43 characters and one `=`; the last character's two spare bits are zero (RFC 4648
/// section 3.5), so that a root has one spelling.
fn is_base64_of_32_bytes(text: &str) -> bool {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let Some(digits) = text.strip_suffix('=') else {
        return false;
    };
    digits.len() == 43
        && digits.bytes().all(is_digit)
        && digits.ends_with(|last: char| "AEIMQUYcgkosw048".contains(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    fn mark(size: u64, root: &str) -> HighMark {
        HighMark::read(&format!("log.example\n{size}\n{root}\n"), "log.example").unwrap()
    }

    #[test]
    fn a_checkpoint_has_one_spelling() {
        let good = format!("log.example\n0\n{ROOT}\n");
        assert_eq!(HighMark::read(&good, "log.example").unwrap().size, 0);
        for text in [
            "",
            "\n",
            "log.example\n",
            &format!("log.example\n0\n{ROOT}"),
            &format!("log.example\n0\n{ROOT}\n\n"),
            &format!("log.example\n0\n{ROOT}\nextension\n"),
            &format!("log.example\n00\n{ROOT}\n"),
            &format!("log.example\n+1\n{ROOT}\n"),
            &format!("log.example\n-1\n{ROOT}\n"),
            &format!("log.example\n18446744073709551616\n{ROOT}\n"),
            &format!("log.example\n\n{ROOT}\n"),
            &format!("other.example\n0\n{ROOT}\n"),
            "log.example\n0\nAAAA\n",
            "log.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
            "log.example\r\n0\r\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\r\n",
        ] {
            assert!(HighMark::read(text, "log.example").is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_second_history_is_refused() {
        let other = ROOT.replace("47DE", "57DE");
        let high = mark(7, ROOT);
        assert!(check_advance(None, &high).is_ok());
        assert!(check_advance(Some(&high), &mark(7, ROOT)).is_ok());
        assert!(check_advance(Some(&high), &mark(8, &other)).is_ok());
        assert!(check_advance(Some(&high), &mark(7, &other)).is_err());
        assert!(check_advance(Some(&high), &mark(6, ROOT)).is_err());
    }
}
