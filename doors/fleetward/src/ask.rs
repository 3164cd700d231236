//! Asking the person at the terminal.

use std::io::Write;

/// True if the answer is yes; nothing else is.
///
/// # Errors
/// The terminal is gone.
pub fn yes(question: &str) -> anyhow::Result<bool> {
    let mut screen = std::io::stderr().lock();
    write!(screen, "{question} [y/N] ")?;
    screen.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
