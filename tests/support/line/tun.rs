//! Network devices of the kernel's whose cable ends in this program.

#![expect(
    unsafe_code,
    reason = "the kernel makes such a device by two ioctls, for which no safe crate stands"
)]

use std::ffi::c_int;
use std::fs::File;
use std::io;

use rustix::ioctl::{IntegerSetter, Opcode, Setter, ioctl, opcode};

/// Bytes before each packet, in which the kernel says what is left to be done with it (`struct virtio_net_hdr`).
pub(super) const HEADER_BYTES: usize = 10;

/// Longest packet, header included. One of several segments may be this long.
pub(super) const MAX_PACKET_BYTES: usize = HEADER_BYTES + 65_535;

// Source: linux/if_tun.h.
const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<c_int>(b'T', 208);
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUN_F_USO4: usize = 0x20;
const TUN_F_USO6: usize = 0x40;

const IFNAMSIZ: usize = 16;

/// `struct ifreq` as far as it is used here.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// Makes a device, which lives as long as the file or its namespace does. A read takes the next packet that the kernel
/// sends, and a write gives it one, each behind [`HEADER_BYTES`].
///
/// With `segments`, what belongs to one connection comes as one packet of many segments, each of which the MTU bounds: it
/// crosses as one, as it does between a kernel and the network card that would cut it.
pub(super) fn open(name: &str, segments: bool) -> io::Result<File> {
    let mut request =
        InterfaceRequest { name: [0; IFNAMSIZ], flags: IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, rest: [0; 22] };
    if name.len() >= IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: the kernel reads and writes one `struct ifreq`, of which this is the layout, and keeps no pointer to it.
    unsafe { ioctl(&device, Setter::<TUNSETIFF, _>::new(request))? };
    if segments {
        let tcp = TUN_F_CSUM | TUN_F_TSO4;
        // SAFETY: it takes a number.
        let offload =
            |features| unsafe { ioctl(&device, IntegerSetter::<TUNSETOFFLOAD>::new_usize(features)) };
        // Kernels before 6.2 know nothing of segments of UDP.
        offload(tcp | TUN_F_USO4 | TUN_F_USO6).or_else(|_| offload(tcp))?;
    }
    Ok(device)
}
