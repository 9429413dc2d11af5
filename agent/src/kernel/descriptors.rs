//! File descriptors and socket options that the safe wrappers do not cover.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, UnixAddr, recvmsg};

/// As many as a client has reason to send.
const MAX_DESCRIPTORS: usize = 2;

/// Receives bytes and the descriptors that came with them. Where there were more, or the process may not have so many,
/// those that did arrive are closed.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<UnixAddr>(socket.as_fd().as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let (bytes, flags) = (message.bytes, message.flags);
    let received = rights(&space);
    if flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((bytes, received))
}

/// The descriptors in the one control message that there can be. Read by hand, as nix does not give what is left of a
/// message that was cut, and the process would keep it for ever.
#[expect(unsafe_code, reason = "received descriptors are plain numbers")]
fn rights(control: &[u8]) -> Vec<OwnedFd> {
    const LENGTH: usize = size_of::<usize>();
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let length = control.first_chunk::<LENGTH>().map_or(0, |bytes| usize::from_ne_bytes(*bytes));
    let [level, kind] = [libc::SOL_SOCKET, libc::SCM_RIGHTS].map(i32::to_ne_bytes);
    if control.get(LENGTH..HEADER) != Some([level, kind].as_flattened()) {
        return Vec::new();
    }
    let (numbers, _) = control.get(HEADER..length).unwrap_or_default().as_chunks::<4>();
    // SAFETY: recvmsg just made these descriptors for us, and nobody else knows their numbers.
    numbers.iter().map(|number| unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(*number)) }).collect()
}

/// Sets an option of level SOL_NETLINK.
pub fn set_netlink_option(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> nix::Result<()> {
    set_option(socket, libc::SOL_NETLINK, option, value)
}

/// A receive buffer beyond net.core.rmem_max: the right to it comes with CAP_NET_ADMIN.
pub fn force_receive_buffer(socket: &OwnedFd, bytes: libc::c_int) -> nix::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
}

#[expect(unsafe_code, reason = "nix does not know these options")]
fn set_option(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> nix::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(&value).cast(), length)
    };
    Errno::result(outcome).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

    use super::*;

    /// Each descriptor sent is the writing end of one pipe: its reading end sees the end when all of them are closed.
    fn receive_copies(count: usize) -> (nix::Result<usize>, std::io::PipeReader) {
        let (sender, receiver) = UnixStream::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let copies = vec![writer.as_raw_fd(); count];
        let control = [ControlMessage::ScmRights(&copies)];
        let bytes = [std::io::IoSlice::new(&[7])];
        sendmsg::<UnixAddr>(sender.as_raw_fd(), &bytes, &control, MsgFlags::empty(), None).unwrap();
        drop(writer);
        let received = receive(&receiver, &mut [0; 4]).map(|(_, descriptors)| descriptors.len());
        (received, reader)
    }

    #[test]
    fn descriptors_that_are_too_many_are_refused_and_closed() {
        use std::io::Read;
        for count in [1, 2, 3, 100] {
            let (received, mut reader) = receive_copies(count);
            assert_eq!(received.ok(), (count <= MAX_DESCRIPTORS).then_some(count));
            nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
            assert_eq!(reader.read(&mut [0; 1]).ok(), Some(0), "{count}: a copy is still open");
        }
    }
}
