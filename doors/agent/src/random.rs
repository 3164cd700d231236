//! Random numbers of the cryptographic library, for jitter and names.

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// 32 uniform bits.
pub fn bits() -> u32 {
    u32::from_be_bytes(bytes())
}

/// A UUID of version 4 (RFC 9562).
pub fn uuid() -> String {
    let mut bytes: [u8; 16] = bytes();
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = *version & 0x0f | 0x40;
    *variant = *variant & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It cannot fail once the process runs; zeros would cost jitter only, never a key.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes
}
