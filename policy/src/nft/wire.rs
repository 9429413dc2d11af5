//! Netlink's bytes: messages with a netfilter header, and attributes (type, length, value) that nest.
//!
//! [`Writer`] makes them, [`messages`] and [`attributes`] walk them. Lengths are patched in when a scope closes, so a
//! value's size need not be known before. The header is in the machine's byte order, netfilter's integers in network order.
//!
//! Decoding is for what the kernel sends; it still never panics: a length that does not fit ends the walk.

/// `nlmsghdr`: length, type, flags, sequence, port.
pub const NLMSG_HEADER: usize = 16;
/// `nfgenmsg`: family, version, resource id.
pub const NFGEN_HEADER: usize = 4;

const ATTR_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: without the flags for "nested" and "network order".
const ATTR_TYPE_MASK: u16 = 0x3fff;
const ATTR_NESTED: u16 = 0x8000;

/// Messages one after the other, with rising sequence numbers.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    sequence: u32,
    last_message: usize,
}

impl Writer {
    /// The first message gets `sequence`.
    pub fn new(sequence: u32) -> Self {
        Self { bytes: Vec::new(), sequence, last_message: 0 }
    }

    /// Sequence number of the next message.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// One message; `body` writes its attributes. `NLM_F_REQUEST` is added to `flags`.
    pub fn message(&mut self, kind: u16, flags: u16, family: u8, body: impl FnOnce(&mut Self)) {
        self.message_with_resource(kind, flags, family, 0, body);
    }

    /// As [`Self::message`], with the header's resource id: the subsystem, in a batch's begin and end.
    pub fn message_with_resource(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Self),
    ) {
        const NLM_F_REQUEST: u16 = 1;
        let start = self.bytes.len();
        self.last_message = start;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        body(self);
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Sets flags on the last message.
    pub(super) fn add_flags(&mut self, flags: u16) {
        let offset = self.last_message;
        let old = u16::from_ne_bytes([self.bytes[offset + 6], self.bytes[offset + 7]]);
        self.bytes[offset + 6..offset + 8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        self.scope(kind, |writer| writer.bytes.extend_from_slice(value));
    }

    pub fn attr_u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    pub fn attr_u16(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn attr_u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub fn attr_u64(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// NUL-terminated, as the kernel wants names.
    pub fn attr_str(&mut self, kind: u16, value: &str) {
        self.scope(kind, |writer| {
            writer.bytes.extend_from_slice(value.as_bytes());
            writer.bytes.push(0);
        });
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        self.scope(kind | ATTR_NESTED, body);
    }

    /// Attributes that were encoded before.
    pub fn raw(&mut self, attributes: &[u8]) {
        self.bytes.extend_from_slice(attributes);
    }

    fn scope(&mut self, kind: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        body(self);
        // Element lists, the only attributes that grow with data, are cut into chunks far below 64 KB.
        let length = u16::try_from(self.bytes.len() - start).expect("attributes are below 64 KB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message of what the kernel sent.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// The netlink port of the socket that caused the message; 0 is the kernel.
    pub port: u32,
    /// Everything behind the netlink header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Address family of the netfilter header.
    pub fn family(&self) -> u8 {
        self.payload.first().copied().unwrap_or_default()
    }

    /// The attributes behind the netfilter header.
    pub fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        attributes(self.payload.get(NFGEN_HEADER..).unwrap_or_default())
    }

    pub fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        find(self.payload.get(NFGEN_HEADER..)?, kind)
    }
}

/// The messages of one datagram.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.first_chunk::<NLMSG_HEADER>()?;
        let length =
            usize::try_from(u32::from_ne_bytes([header[0], header[1], header[2], header[3]])).ok()?;
        let payload = datagram.get(NLMSG_HEADER..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            port: u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
            payload,
        })
    })
}

/// The attributes in `bytes`: type without flags, and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<ATTR_HEADER>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = bytes.get(ATTR_HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[2], header[3]]) & ATTR_TYPE_MASK, value))
    })
}

/// The first attribute of that type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// An integer in network order.
pub fn be_u32(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// A name, with or without its NUL.
pub fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::new(7);
        writer.message(1, 4, 2, |w| {
            w.attr_str(1, "weft");
            w.nest(2, |w| w.attr_u32(3, 0x0102_0304));
        });
        writer.message(9, 0, 0, |w| w.attr_u8(1, 5));

        let bytes = writer.into_bytes();
        let [first, second] = messages(&bytes).collect::<Vec<_>>()[..] else { panic!("two messages") };

        assert_eq!((first.kind, first.flags, first.sequence, first.family()), (1, 5, 7, 2));
        assert_eq!(first.attribute(1).and_then(text), Some("weft"));
        assert_eq!(first.attribute(2).and_then(|nest| find(nest, 3)).and_then(be_u32), Some(0x0102_0304));
        assert_eq!((second.sequence, second.attribute(1)), (8, Some(&[5][..])));
    }

    #[test]
    fn a_length_that_does_not_fit_ends_the_walk() {
        assert_eq!(attributes(&[200, 0, 1, 0, 9, 9, 9, 9]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(messages(&[255; 40]).count(), 0);
    }
}
