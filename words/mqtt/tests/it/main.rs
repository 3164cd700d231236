//! What `mqtt` promises, held against a second implementation, brute force and hostile bytes.

#[cfg(test)]
mod algebra;
#[cfg(test)]
mod allocation;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod trie;
#[cfg(test)]
mod websocket;
