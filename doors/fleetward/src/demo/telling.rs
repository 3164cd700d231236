//! What a person reads while it happens: one line each, the intruder in a colour of its own.
//!
//! Everything that came from a device or through the API is shown with its control characters
//! escaped: the intruder must not write on this terminal.

use crate::show::escaped;
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// The demo itself.
    Stage,
    Intruder,
    /// What the plane saw.
    Seen,
    /// What the plane did.
    Done,
}

impl Voice {
    const fn name(self) -> &'static str {
        match self {
            Self::Stage => "demo",
            Self::Intruder => "intruder",
            Self::Seen => "seen",
            Self::Done => "done",
        }
    }

    /// SGR of ECMA-48.
    const fn colour(self) -> &'static str {
        match self {
            Self::Stage => "2",
            Self::Intruder => "31;1",
            Self::Seen => "33",
            Self::Done => "32;1",
        }
    }
}

#[derive(Debug)]
pub struct Telling {
    began: Instant,
    colours: bool,
}

impl Telling {
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            colours: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    pub fn tell(&self, voice: Voice, text: &str) {
        let line = self.line(self.began.elapsed().as_secs_f64(), voice, text);
        // A closed terminal ends the telling, not the demo.
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    fn line(&self, seconds: f64, voice: Voice, text: &str) -> String {
        let name = voice.name();
        let text = escaped(text);
        if self.colours {
            let colour = voice.colour();
            format!("{seconds:5.1} s  \u{1b}[{colour}m{name:<8}\u{1b}[0m  {text}")
        } else {
            format!("{seconds:5.1} s  {name:<8}  {text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intruder_cannot_write_on_the_terminal() {
        for colours in [false, true] {
            let telling = Telling {
                began: Instant::now(),
                colours,
            };
            let line = telling.line(1.0, Voice::Intruder, "a\u{1b}[2J\nb\u{202e}c");
            let text = line.split("intruder").nth(1).unwrap();
            let text = text.trim_start_matches("\u{1b}[0m");
            assert!(!text.contains(['\u{1b}', '\n', '\u{202e}']), "{line:?}");
        }
    }
}
