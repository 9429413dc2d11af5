//! File descriptors and socket options that the safe wrappers do not cover.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

/// More than a client has reason to send; the kernel closes what does not fit.
const MAX_DESCRIPTORS: usize = 2;

/// Receives bytes and the descriptors that came with them.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; MAX_DESCRIPTORS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<UnixAddr>(socket.as_fd().as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            received.extend(descriptors.into_iter().map(own));
        }
    }
    Ok((message.bytes, received))
}

#[expect(unsafe_code, reason = "nix hands received descriptors over as plain numbers")]
fn own(descriptor: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: recvmsg just made this descriptor for us, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
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
