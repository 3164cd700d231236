//! What a shard asks of the kernel and of the processor, and no crate has a safe word for. The only
//! unsafe code there is: three system calls on values of our own, a hint and a look for where to give it,
//! in functions that no argument can make unsound.

#![expect(
    unsafe_code,
    reason = "neither rustix nor nix offers SO_RCVLOWAT or sched_setattr, nor core a safe prefetch; \
              tidy keeps it in this file"
)]

use std::ffi::c_int;
use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// From how many waiting bytes on a poll tells of this socket (`SO_RCVLOWAT`, socket(7)). Of its end
/// it tells in any case, and a read takes what there is.
///
/// # Errors
/// The system's.
pub fn tell_from(socket: &TcpStream, bytes: c_int) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told, all of `bytes`, before the call returns;
    // the descriptor is `socket`'s, which is open as long as it is borrowed.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const bytes).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    said(outcome.into())
}

/// Tells the scheduler that this thread runs for short moments, and that who wakes it waits for it:
/// `slice` is what it needs at a time, from 0.1 to 100 ms (sched_setattr(2); heeded by Linux 6.18, on which
/// it was measured). Policy and niceness stay.
///
/// # Errors
/// The system's; a sandbox may forbid it.
pub fn run_for_short_moments(slice: Duration) -> io::Result<()> {
    let mut attributes = Attributes::default();
    let own_bytes = size_of::<Attributes>() as libc::c_uint;
    let (this_thread, no_flags): (libc::pid_t, libc::c_uint) = (0, 0);
    // SAFETY: the kernel writes no more bytes than it is told there are, all of them plain numbers.
    said(unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            this_thread,
            &raw mut attributes,
            own_bytes,
            no_flags,
        )
    })?;
    attributes.size = own_bytes;
    attributes.runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: the kernel reads `size` bytes, which is all of the structure, and keeps none.
    said(unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            this_thread,
            &raw const attributes,
            no_flags,
        )
    })
}

/// Has the processor fetch what lies there while something else is done: a hint, which no address makes
/// unsound.
pub fn prefetch((from, bytes): (*const u8, usize)) {
    const LINE_BYTES: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads and writes nothing and raises no fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, bytes, LINE_BYTES);
}

/// [`prefetch`] of what lies behind a value that does not say where: `bytes` from wherever a word of it
/// points to.
pub fn prefetch_behind<T>(value: &T, bytes: usize) {
    /// No page lies lower: it is a number.
    const ADDRESS_MIN: usize = 1 << 16;
    #[cfg(target_arch = "x86_64")]
    for address in words(value).filter(|word| *word >= ADDRESS_MIN) {
        prefetch((std::ptr::without_provenance(address), bytes));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, bytes, ADDRESS_MIN);
}

#[cfg(target_arch = "x86_64")]
fn words<T>(value: &T) -> impl Iterator<Item = usize> {
    (0..size_of::<T>() / size_of::<usize>()).map(|place| {
        let at = (std::ptr::from_ref(value).cast::<usize>()).wrapping_add(place);
        let word: usize;
        // SAFETY: the word lies within `value` and is only read; no bytes are uninitialised to the
        // processor, as those between two fields are to the language.
        unsafe {
            std::arch::asm!(
                "mov {word}, qword ptr [{at}]",
                at = in(reg) at,
                word = lateout(reg) word,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        word
    })
}

/// `struct sched_attr` as of its first version (48 bytes), which every later kernel understands.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

fn said(outcome: libc::c_long) -> io::Result<()> {
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener};

    fn is_told(socket: &TcpStream, patience_seconds: i64) -> bool {
        let mut asked = [PollFd::new(socket, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: patience_seconds,
            tv_nsec: 0,
        };
        poll(&mut asked, Some(&patience)).unwrap() == 1
    }

    #[test]
    fn a_poll_tells_from_so_many_bytes_on_or_of_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_nodelay(true).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        tell_from(&socket, 48).unwrap();
        peer.write_all(&[1; 47]).unwrap();
        assert!(!is_told(&socket, 0));
        peer.write_all(&[1]).unwrap();
        assert!(is_told(&socket, 60));
        let mut room = [0; 64];
        assert_eq!(socket.read(&mut room).unwrap(), 48);
        peer.write_all(&[1; 5]).unwrap();
        assert!(!is_told(&socket, 0));
        tell_from(&socket, 1).unwrap();
        assert!(is_told(&socket, 60), "also of what came before");
        tell_from(&socket, 48).unwrap();
        assert!(!is_told(&socket, 0));
        assert_eq!(
            socket.read(&mut room).unwrap(),
            5,
            "who asks gets what is there"
        );
        peer.shutdown(Shutdown::Write).unwrap();
        assert!(is_told(&socket, 60));
    }

    /// If it fails, the hints of `prefetch_keys` are in vain: look where a key lies now.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_key_lies_behind_a_word_of_its_owner() {
        use aws_lc_rs::aead::{AES_128_GCM, LessSafeKey, UnboundKey};
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap());
        let algorithm = std::ptr::from_ref(key.algorithm()).addr();
        let held: Vec<usize> = words(&key).collect();
        assert!(held.contains(&algorithm), "{held:x?}");
        let others = held.iter().filter(|word| **word != algorithm);
        assert_eq!(others.filter(|word| **word >= 1 << 16).count(), 1);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_value_is_looked_through_to_its_last_whole_word_whatever_it_holds() {
        for word in [0, 1, usize::MAX, usize::MAX / 2, 1 << 47] {
            let value = [word, 3];
            assert_eq!(words(&value).collect::<Vec<_>>(), value);
            prefetch_behind(&value, 584);
        }
        assert_eq!(words(&[255_u8; 15]).collect::<Vec<_>>(), [usize::MAX]);
        assert_eq!(words(&()).count(), 0);
    }

    #[test]
    fn a_slice_is_asked_for_and_niceness_stays() {
        let nice = |thread: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
            let (_, behind_name) = stat.rsplit_once(')').unwrap();
            behind_name.split_whitespace().nth(16).unwrap().to_owned()
        };
        let before = nice("thread-self");
        // A sandbox may forbid it, and nothing depends on it.
        if let Err(error) = run_for_short_moments(Duration::from_micros(100)) {
            println!("skipped: {error}");
        }
        assert_eq!(nice("thread-self"), before);
        assert_eq!(size_of::<Attributes>(), 48);
    }
}
