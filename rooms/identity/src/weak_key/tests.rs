use super::*;
use std::io::Write;
use std::process::{Command, Stdio};

/// Big-endian, as on paper.
fn product(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut out = vec![0_u8; a.len() + b.len()];
    for (i, x) in a.iter().rev().enumerate() {
        let mut carry = 0_u32;
        for (j, y) in b.iter().rev().chain([&0; 1]).enumerate() {
            let Some(place) = out.len().checked_sub(1 + i + j) else {
                continue;
            };
            let digit = u32::from(out[place]) + u32::from(*x) * u32::from(*y) + carry;
            out[place] = (digit & 0xff) as u8;
            carry = digit >> 8;
        }
    }
    out
}

/// Some odd number of 1024 bits with the two highest set.
fn factor(seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..128_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8 ^ seed.wrapping_mul(37))
        .collect();
    bytes[0] |= 0xc0;
    bytes[127] |= 1;
    bytes
}

/// A power of 65537 is one modulo each prime, as a product of two of RSALib's primes is.
#[test]
fn attack_a_key_that_can_be_factored_is_refused() {
    let mut number = vec![1];
    for _ in 0..128 {
        number = product(&number, &[1, 0, 1]);
        let start = number.iter().position(|byte| *byte != 0).unwrap();
        number.drain(..start);
    }
    assert!(number.len() >= 256);
    assert_eq!(flaw_of_modulus(&number), Some(KeyFlaw::Roca));
    let last = number.len() - 1;
    number[last] ^= 2;
    assert_eq!(flaw_of_modulus(&number), None);
}

#[test]
fn attack_a_key_of_two_neighbouring_primes_is_refused() {
    for apart in [0_u8, 2, 6, 250] {
        let (p, mut q) = (factor(1), factor(1));
        q[127] = q[127].wrapping_add(apart);
        let modulus = product(&p, &q);
        assert_eq!(
            flaw_of_modulus(&modulus),
            Some(KeyFlaw::ClosePrimes),
            "{apart}"
        );
    }
    // Apart by 2^520 and more they take 2^13 steps and more; by 2^600, longer than the sun shines.
    let mut q = factor(1);
    for byte in &mut q[53..] {
        *byte = byte.wrapping_mul(3) ^ 0x5a;
    }
    q[127] |= 1;
    assert_eq!(flaw_of_modulus(&product(&factor(1), &q)), None);
    assert_eq!(flaw_of_modulus(&product(&factor(1), &factor(9))), None);
}

fn openssl(arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: no openssl");
        return None;
    };
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    Some(output.stdout)
}

/// As the list's makers do it: `openssl rsa -modulus`, SHA-1, the last half of the digits.
#[test]
fn debians_list_knows_a_key_by_what_openssl_prints() {
    let Some(private) = openssl(&["genrsa", "2048"], &[]) else {
        return;
    };
    let public = openssl(&["rsa", "-pubout", "-outform", "DER"], &private).unwrap();
    let modulus = openssl(&["rsa", "-noout", "-modulus"], &private).unwrap();
    let hash = openssl(&["dgst", "-sha1", "-r"], &modulus).unwrap();
    let hash = std::str::from_utf8(&hash[..40]).unwrap();
    for line in [&hash[20..], hash] {
        let list = format!("# a comment\n{line} RSA-2048\n0123456789abcdef0123\n");
        let keys = BadKeys::read("", &list).unwrap();
        assert_eq!(keys.flaw(&public), Some(KeyFlaw::Debian));
        assert_eq!(keys.len(), 2);
    }
    let other = BadKeys::read("", "0123456789abcdef0123\n").unwrap();
    assert_eq!(other.flaw(&public), None);

    let hash = openssl(&["dgst", "-sha256", "-r"], &public).unwrap();
    let hash = std::str::from_utf8(&hash[..64]).unwrap();
    for line in [hash, &hash.to_uppercase(), &hash[..30]] {
        let keys = BadKeys::read(line, "").unwrap();
        assert_eq!(keys.flaw(&public), Some(KeyFlaw::Published), "{line}");
    }
}

#[test]
fn a_list_with_a_line_that_says_nothing_is_refused_whole() {
    let good = "00112233445566778899aabbccddee";
    assert_eq!(BadKeys::read(good, "").unwrap().len(), 1);
    let long = format!("{good}{good}{good}");
    for bad in [
        "zz",
        "0011",
        &good[..28],
        "00112233445566778899aabbccddeg",
        &long,
        "é",
    ] {
        let list = format!("{good}\n\n{bad}\n");
        assert_eq!(BadKeys::read(&list, "").unwrap_err().line, 3, "{bad}");
        assert_eq!(BadKeys::read("", bad).unwrap_err().line, 1, "{bad}");
    }
    assert!(BadKeys::read("# nothing\n\n", "").unwrap().is_empty());
}
