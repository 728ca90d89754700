//! WASI preview 1 for core modules: wasmtime's own, and in its place what concerns the connection, which wasmtime does
//! not know as one.

use std::future::Future;

use rustix::net::Shutdown;
use wasmtime::{AsContextMut as _, Caller, Extern, Linker};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1::types::{
    Errno, Error, Fd, Fdflags, Fdstat, Filetype, Iovec, Riflags, Rights, Sdflags,
};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as wasi, WasiSnapshotPreview1 as _};
use wiggle::{GuestMemory, GuestPtr};

use super::PREVIEW1;
use super::connection::Outcome;
use super::poll::poll_oneoff;
use crate::sandbox::state::State;

/// The most buffers that one call may have, as `IOV_MAX` is elsewhere.
const BUFFERS_MAX: u32 = 1024;

/// Where the fields of `fdstat` and `filestat` lie that are other for a socket.
const FDSTAT_FLAGS: u32 = 2;
const FDSTAT_RIGHTS: [u32; 2] = [8, 16];
const FILESTAT_FILETYPE: u32 = 16;

/// What may be done with a socket.
const SOCKET_RIGHTS: Rights = Rights::FD_READ
    .union(Rights::FD_WRITE)
    .union(Rights::FD_FDSTAT_SET_FLAGS)
    .union(Rights::FD_FILESTAT_GET)
    .union(Rights::POLL_FD_READWRITE)
    .union(Rights::SOCK_SHUTDOWN);

/// What is called with: the guest's memory, and all that its store holds.
type Call<'a> = (GuestMemory<'a>, &'a mut State);

/// A call's result: 0, or an error number.
type Called<'a> = Box<dyn Future<Output = wasmtime::Result<i32>> + Send + 'a>;

/// Defines all functions of preview 1.
pub(in super::super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |state: &mut State| &mut state.preview1().ctx)?;
    linker.allow_shadowing(true);
    linker.func_wrap_async(PREVIEW1, "fd_read", fd_read)?;
    linker.func_wrap_async(PREVIEW1, "fd_write", fd_write)?;
    linker.func_wrap_async(PREVIEW1, "fd_close", fd_close)?;
    linker.func_wrap_async(PREVIEW1, "fd_renumber", fd_renumber)?;
    linker.func_wrap_async(PREVIEW1, "fd_fdstat_get", fd_fdstat_get)?;
    linker.func_wrap_async(PREVIEW1, "fd_fdstat_set_flags", fd_fdstat_set_flags)?;
    linker.func_wrap_async(PREVIEW1, "fd_filestat_get", fd_filestat_get)?;
    linker.func_wrap_async(PREVIEW1, "poll_oneoff", poll)?;
    linker.func_wrap_async(PREVIEW1, "sock_accept", sock_accept)?;
    linker.func_wrap_async(PREVIEW1, "sock_recv", sock_recv)?;
    linker.func_wrap_async(PREVIEW1, "sock_send", sock_send)?;
    linker.func_wrap_async(PREVIEW1, "sock_shutdown", sock_shutdown)?;
    linker.func_wrap(PREVIEW1, "proc_exit", proc_exit)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn enter<'a>(caller: &'a mut Caller<'_, State>) -> wasmtime::Result<Call<'a>> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        wasmtime::bail!("it exports no memory named `memory`");
    };
    let (memory, state) = memory.data_and_store_mut(caller);
    state.preview1().ctx.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(memory), state))
}

/// What the guest is told.
fn told(outcome: Outcome<()>) -> wasmtime::Result<i32> {
    match outcome {
        Ok(()) => Ok(number(Errno::Success)),
        Err(error) => error.downcast().map(number),
    }
}

fn number(errno: Errno) -> i32 {
    i32::from(u16::from(errno))
}

fn fd_read(mut caller: Caller<'_, State>, (fd, iovs, count, read): (i32, i32, i32, i32)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        if !state.preview1().is_connection(fd as u32) {
            return wasi::fd_read(&mut state.preview1().ctx, &mut memory, fd, iovs, count, read).await;
        }
        told(receive(state, &mut memory, fd, (iovs, count), false, read).await)
    })
}

fn sock_recv(
    mut caller: Caller<'_, State>,
    (fd, iovs, count, flags, received, flags_out): (i32, i32, i32, i32, i32, i32),
) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        told(
            async {
                check_socket(state, &mut memory, fd).await?;
                let flags = Riflags::try_from(flags)?;
                let peek = flags.contains(Riflags::RECV_PEEK);
                if flags.contains(Riflags::RECV_WAITALL) && !peek {
                    receive_all(state, &mut memory, fd, (iovs, count), received).await?;
                } else {
                    receive(state, &mut memory, fd, (iovs, count), peek, received).await?;
                }
                Ok(memory.write(GuestPtr::<u16>::new(flags_out as u32), 0)?)
            }
            .await,
        )
    })
}

/// Reads what has come into the first of the guest's buffers that has room.
async fn receive(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    buffers: (i32, i32),
    peek: bool,
    length: i32,
) -> Outcome<()> {
    let buffer = buffers_of(memory, buffers)?.into_iter().find(|buffer| buffer.len() > 0);
    let received = match buffer.map(|buffer| memory.as_slice_mut(buffer)).transpose()?.flatten() {
        Some(room) => state.recv(fd as u32, room, peek).await?,
        None => 0,
    };
    Ok(memory.write(GuestPtr::new(length as u32), received as u32)?)
}

/// Reads until all of the guest's buffers are full, or nothing more comes.
async fn receive_all(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    buffers: (i32, i32),
    length: i32,
) -> Outcome<()> {
    let mut total = 0;
    'all: for buffer in buffers_of(memory, buffers)? {
        let Some(mut room) = memory.as_slice_mut(buffer)? else { continue };
        while !room.is_empty() {
            match state.recv(fd as u32, room, false).await {
                Ok(0) => break 'all,
                Ok(received) => {
                    total += received;
                    room = &mut room[received..];
                }
                Err(error) => {
                    unless_some(total, error)?;
                    break 'all;
                }
            }
        }
    }
    Ok(memory.write(GuestPtr::new(length as u32), total as u32)?)
}

fn fd_write(mut caller: Caller<'_, State>, (fd, iovs, count, written): (i32, i32, i32, i32)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        if !state.preview1().is_connection(fd as u32) {
            return wasi::fd_write(&mut state.preview1().ctx, &mut memory, fd, iovs, count, written).await;
        }
        told(
            async {
                let mut total = 0;
                for buffer in buffers_of(&memory, (iovs, count))? {
                    let data = memory.as_cow(buffer)?;
                    match state.write(fd as u32, &data).await {
                        Ok(length) => total += length,
                        Err(error) => {
                            unless_some(total, error)?;
                            break;
                        }
                    }
                }
                Ok(memory.write(GuestPtr::new(written as u32), total as u32)?)
            }
            .await,
        )
    })
}

/// What ends an operation that is done by a part of it, as POSIX has it: what was done before counts, and the next call
/// says why it went no further. A trap is one now.
fn unless_some(done: usize, error: Error) -> Outcome<()> {
    match error.downcast() {
        Ok(_) if done > 0 => Ok(()),
        Ok(errno) => Err(errno.into()),
        Err(trap) => Err(Error::trap(trap)),
    }
}

fn sock_send(
    mut caller: Caller<'_, State>,
    (fd, iovs, count, _, sent): (i32, i32, i32, i32, i32),
) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        told(
            async {
                check_socket(state, &mut memory, fd).await?;
                let mut data = Vec::new();
                // A packet has all of them, so that they are put together.
                for buffer in buffers_of(&memory, (iovs, count))? {
                    if data.len() + buffer.len() as usize > state.sandbox.limits().call_bytes {
                        return Err(Errno::Msgsize.into());
                    }
                    data.extend_from_slice(&memory.as_cow(buffer)?);
                }
                let length = state.send(fd as u32, &data).await?;
                Ok(memory.write(GuestPtr::new(sent as u32), length as u32)?)
            }
            .await,
        )
    })
}

fn sock_shutdown(mut caller: Caller<'_, State>, (fd, how): (i32, i32)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        told(
            async {
                check_socket(state, &mut memory, fd).await?;
                let flags = Sdflags::try_from(how)?;
                let how = match (flags.contains(Sdflags::RD), flags.contains(Sdflags::WR)) {
                    (true, true) => Shutdown::Both,
                    (true, false) => Shutdown::Read,
                    (false, true) => Shutdown::Write,
                    (false, false) => return Err(Errno::Inval.into()),
                };
                state.shutdown(how).await
            }
            .await,
        )
    })
}

fn sock_accept(mut caller: Caller<'_, State>, (fd, ..): (i32, i32, i32)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        // Nobody can connect to what is connected.
        told(check_socket(state, &mut memory, fd).await.and(Err(Errno::Inval.into())))
    })
}

/// wasmtime's own functions for sockets would say in the log that there are none, as often as the guest asks.
async fn check_socket(state: &mut State, memory: &mut GuestMemory<'_>, fd: i32) -> Outcome<()> {
    if state.preview1().is_connection(fd as u32) {
        return Ok(());
    }
    stat(state, memory, fd).await?;
    Err(Errno::Notsock.into())
}

/// What wasmtime knows of a descriptor.
async fn stat(state: &mut State, memory: &mut GuestMemory<'_>, fd: i32) -> Outcome<Fdstat> {
    state.preview1().ctx.fd_fdstat_get(memory, Fd::from(fd as u32)).await
}

fn fd_close(mut caller: Caller<'_, State>, (fd,): (i32,)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        let closed = wasi::fd_close(&mut state.preview1().ctx, &mut memory, fd).await?;
        if closed == number(Errno::Success) {
            state.preview1().forget(fd as u32);
        }
        Ok(closed)
    })
}

fn fd_renumber(mut caller: Caller<'_, State>, (from, to): (i32, i32)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        let renumbered = wasi::fd_renumber(&mut state.preview1().ctx, &mut memory, from, to).await?;
        if renumbered == number(Errno::Success) && from != to {
            state.preview1().renumber(from as u32, to as u32);
        }
        Ok(renumbered)
    })
}

fn fd_fdstat_get(mut caller: Caller<'_, State>, (fd, fdstat): (i32, i32)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        let got = wasi::fd_fdstat_get(&mut state.preview1().ctx, &mut memory, fd, fdstat).await?;
        if got == number(Errno::Success) && state.preview1().is_connection(fd as u32) {
            let is_non_blocking = state.preview1().is_non_blocking(fd as u32);
            let flags = if is_non_blocking { Fdflags::NONBLOCK } else { Fdflags::empty() };
            let field = |offset| (fdstat as u32).saturating_add(offset);
            memory.write(GuestPtr::new(field(0)), state.socket_type())?;
            memory.write(GuestPtr::new(field(FDSTAT_FLAGS)), flags)?;
            for offset in FDSTAT_RIGHTS {
                memory.write(GuestPtr::new(field(offset)), SOCKET_RIGHTS)?;
            }
        }
        Ok(got)
    })
}

fn fd_fdstat_set_flags(mut caller: Caller<'_, State>, (fd, flags): (i32, i32)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        if state.preview1().is_connection(fd as u32) {
            return told(
                Fdflags::try_from(flags)
                    .map_err(Error::from)
                    .and_then(|flags| state.preview1().set_flags(fd as u32, flags)),
            );
        }
        let set = wasi::fd_fdstat_set_flags(&mut state.preview1().ctx, &mut memory, fd, flags)?;
        // The log never blocks.
        let is_log = set == number(Errno::Badf)
            && stat(state, &mut memory, fd)
                .await
                .is_ok_and(|stat| matches!(stat.fs_filetype, Filetype::Unknown | Filetype::CharacterDevice));
        Ok(if is_log { number(Errno::Success) } else { set })
    })
}

fn fd_filestat_get(mut caller: Caller<'_, State>, (fd, filestat): (i32, i32)) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        let got = wasi::fd_filestat_get(&mut state.preview1().ctx, &mut memory, fd, filestat).await?;
        if got == number(Errno::Success) && state.preview1().is_connection(fd as u32) {
            let filetype = (filestat as u32).saturating_add(FILESTAT_FILETYPE);
            memory.write(GuestPtr::new(filetype), state.socket_type())?;
        }
        Ok(got)
    })
}

fn poll(
    mut caller: Caller<'_, State>,
    (subscriptions, events, count, ready): (i32, i32, i32, i32),
) -> Called<'_> {
    Box::new(async move {
        let (mut memory, state) = enter(&mut caller)?;
        told(
            async {
                let subscriptions = GuestPtr::new(subscriptions as u32);
                let events = GuestPtr::new(events as u32);
                let number = poll_oneoff(state, &mut memory, subscriptions, events, count as u32).await?;
                Ok(memory.write(GuestPtr::new(ready as u32), number)?)
            }
            .await,
        )
    })
}

/// The status whole: wasmtime's own would take none beyond 125.
fn proc_exit(_: Caller<'_, State>, status: i32) -> wasmtime::Result<()> {
    Err(I32Exit(status & 0xff).into())
}

/// The buffers of a vectored operation.
fn buffers_of(memory: &GuestMemory<'_>, (iovs, count): (i32, i32)) -> Outcome<Vec<GuestPtr<[u8]>>> {
    if count as u32 > BUFFERS_MAX {
        return Err(Errno::Inval.into());
    }
    let iovs = GuestPtr::<Iovec>::new(iovs as u32).as_array(count as u32);
    iovs.iter()
        .map(|iov| {
            let iov = memory.read(iov?)?;
            Ok(iov.buf.as_array(iov.buf_len))
        })
        .collect()
}
