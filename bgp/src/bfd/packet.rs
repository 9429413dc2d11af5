//! The control packet (RFC 5880 §4.1): bytes to a value and back.
//!
//! In: the payload of a datagram. Out: a [`Packet`], or which check of §6.8.6 it fails; those that need a session are not made
//! here.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Discriminator, State};

const VERSION: u8 = 1;
/// Of a packet without authentication; with it there are at least two octets more.
const LEN: usize = 24;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// What one end says of itself. Intervals are whole microseconds, below 72 minutes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    pub diagnostic: Diagnostic,
    pub state: State,
    /// Answer at once with [`Self::is_final`].
    pub poll: bool,
    pub is_final: bool,
    /// Its BFD goes on when its control plane does not.
    pub control_plane_independent: bool,
    /// It wants no periodic packets.
    pub demand: bool,
    /// At least 1.
    pub detect_multiplier: u8,
    pub my_discriminator: Discriminator,
    /// `None`: it knows none, and so is not up.
    pub your_discriminator: Option<Discriminator>,
    pub desired_min_tx: Duration,
    /// Zero: it wants no periodic packets.
    pub required_min_rx: Duration,
    /// Zero: it does not echo.
    pub required_min_echo_rx: Duration,
}

/// Why the state changed last (RFC 5880 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Diagnostic {
    None,
    ControlDetectionTimeExpired,
    EchoFunctionFailed,
    NeighborSignaledSessionDown,
    ForwardingPlaneReset,
    PathDown,
    ConcatenatedPathDown,
    AdministrativelyDown,
    ReverseConcatenatedPathDown,
    /// 9-31.
    Reserved(u8),
}

/// The check of RFC 5880 §6.8.6 that a packet fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("BFD version {0}")]
    Version(u8),
    #[error("a length of {length} in {payload} octets")]
    Length { length: u8, payload: usize },
    #[error("a detect multiplier of 0")]
    DetectMultiplier,
    #[error("multipoint")]
    Multipoint,
    #[error("no discriminator of its own")]
    MyDiscriminator,
    #[error("none of our discriminators in state {0}")]
    YourDiscriminator(State),
    #[error("authentication, which is not spoken here")]
    Authentication,
}

impl Packet {
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let wrong_length = |length| Malformed::Length { length, payload: payload.len() };
        let Some(([first, second, detect_multiplier, length], rest)) = payload.split_first_chunk::<4>()
        else {
            return Err(wrong_length(0));
        };
        if first >> 5 != VERSION {
            return Err(Malformed::Version(first >> 5));
        }
        let least = if second & AUTHENTICATION == 0 { LEN } else { LEN + 2 };
        let Some(words) = rest
            .first_chunk::<20>()
            .filter(|_| usize::from(*length) >= least && usize::from(*length) <= payload.len())
        else {
            return Err(wrong_length(*length));
        };
        let [mine, yours, tx, rx, echo] = split_words(words);
        let state = state(second >> 6);
        let your_discriminator = Discriminator::new(yours);
        if *detect_multiplier == 0 {
            return Err(Malformed::DetectMultiplier);
        }
        if second & MULTIPOINT != 0 {
            return Err(Malformed::Multipoint);
        }
        let my_discriminator = Discriminator::new(mine).ok_or(Malformed::MyDiscriminator)?;
        if your_discriminator.is_none() && state >= State::Init {
            return Err(Malformed::YourDiscriminator(state));
        }
        if second & AUTHENTICATION != 0 {
            return Err(Malformed::Authentication);
        }
        Ok(Self {
            diagnostic: Diagnostic::from_code(first & 0x1f),
            state,
            poll: second & POLL != 0,
            is_final: second & FINAL != 0,
            control_plane_independent: second & CONTROL_PLANE_INDEPENDENT != 0,
            demand: second & DEMAND != 0,
            detect_multiplier: *detect_multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx: Duration::from_micros(tx.into()),
            required_min_rx: Duration::from_micros(rx.into()),
            required_min_echo_rx: Duration::from_micros(echo.into()),
        })
    }

    pub fn encode(&self) -> [u8; LEN] {
        let flags = [
            (self.poll, POLL),
            (self.is_final, FINAL),
            (self.control_plane_independent, CONTROL_PLANE_INDEPENDENT),
            (self.demand, DEMAND),
        ];
        let flags = flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag);
        let words = [
            self.my_discriminator.0.get(),
            self.your_discriminator.map_or(0, |yours| yours.0.get()),
            micros(self.desired_min_tx),
            micros(self.required_min_rx),
            micros(self.required_min_echo_rx),
        ];
        let mut packet = [0; LEN];
        let (head, rest) = packet.split_at_mut(4);
        let length = u8::try_from(LEN).expect("24 fits an octet");
        head.copy_from_slice(&[
            VERSION << 5 | self.diagnostic.code(),
            state_code(self.state) << 6 | flags,
            self.detect_multiplier,
            length,
        ]);
        for (place, word) in rest.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        packet
    }
}

fn split_words(octets: &[u8; 20]) -> [u32; 5] {
    let (words, _) = octets.as_chunks::<4>();
    std::array::from_fn(|index| u32::from_be_bytes(words[index]))
}

fn micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

/// Of two bits.
fn state(code: u8) -> State {
    match code {
        0 => State::AdminDown,
        1 => State::Down,
        2 => State::Init,
        _ => State::Up,
    }
}

fn state_code(state: State) -> u8 {
    match state {
        State::AdminDown => 0,
        State::Down => 1,
        State::Init => 2,
        State::Up => 3,
    }
}

impl Diagnostic {
    const KNOWN: [Self; 9] = [
        Self::None,
        Self::ControlDetectionTimeExpired,
        Self::EchoFunctionFailed,
        Self::NeighborSignaledSessionDown,
        Self::ForwardingPlaneReset,
        Self::PathDown,
        Self::ConcatenatedPathDown,
        Self::AdministrativelyDown,
        Self::ReverseConcatenatedPathDown,
    ];

    /// Of five bits.
    fn from_code(code: u8) -> Self {
        Self::KNOWN.get(usize::from(code)).copied().unwrap_or(Self::Reserved(code))
    }

    fn code(self) -> u8 {
        match self {
            Self::Reserved(code) => code & 0x1f,
            known => (0..).zip(Self::KNOWN).find(|(_, other)| *other == known).map_or(0, |(code, _)| code),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no diagnostic",
            Self::ControlDetectionTimeExpired => "control detection time expired",
            Self::EchoFunctionFailed => "echo function failed",
            Self::NeighborSignaledSessionDown => "neighbor signaled session down",
            Self::ForwardingPlaneReset => "forwarding plane reset",
            Self::PathDown => "path down",
            Self::ConcatenatedPathDown => "concatenated path down",
            Self::AdministrativelyDown => "administratively down",
            Self::ReverseConcatenatedPathDown => "reverse concatenated path down",
            Self::Reserved(code) => return write!(f, "diagnostic {code}"),
        })
    }
}
