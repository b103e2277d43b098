//! The attempts as a Rust program makes them: through its standard library, by `syscall`, and by instructions of its own.
use std::arch::asm;
use std::ffi::CString;
use std::fs;
use std::io::{self, Error, Read, Write};
use std::os::unix::fs::{symlink, DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

type Attempt = fn(&Path) -> io::Result<()>;

const AT_FDCWD: i64 = -100;

fn within(name: &str) -> PathBuf {
    Path::new(&std::env::var_os("BASE").unwrap_or_default()).join(name)
}

fn show(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(b"GOT ")?;
    out.write_all(text.as_ref())?;
    out.write_all(b"\n")
}

fn c_string(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// A system call by an instruction of the program's own.
fn raw(number: i64, a: i64, b: i64, c: i64, d: i64) -> io::Result<i64> {
    let mut result = number;
    unsafe {
        asm!("syscall", inlateout("rax") result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             out("rcx") _, out("r11") _);
    }
    if result < 0 { Err(Error::from_raw_os_error(-result as i32)) } else { Ok(result) }
}

fn raw_open(path: &Path, flags: i64) -> io::Result<fs::File> {
    let name = c_string(path);
    let fd = raw(257, AT_FDCWD, name.as_ptr() as i64, flags, 0o644)?;
    Ok(unsafe { std::os::unix::io::FromRawFd::from_raw_fd(fd as i32) })
}

fn output(command: &mut Command) -> io::Result<()> {
    show(command.output()?.stdout)
}

fn all_of(mut file: impl Read) -> io::Result<()> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    show(text)
}

const READ: &[(&str, Attempt)] = &[
    ("rust-read", |t| show(fs::read(t)?)),
    ("rust-read-at", |t| {
        let mut text = [0; 32];
        let n = fs::File::open(t)?.read_at(&mut text, 0)?;
        show(&text[..n])
    }),
    ("rust-copy", |t| {
        fs::copy(t, within("work/copy"))?;
        show(fs::read(within("work/copy"))?)
    }),
    ("rust-hard-link", |t| {
        fs::hard_link(t, within("work/h"))?;
        show(fs::read(within("work/h"))?)
    }),
    ("rust-symlink", |t| {
        symlink(t, within("work/l"))?;
        show(fs::read(within("work/l"))?)
    }),
    ("rust-canonical", |t| show(fs::read(fs::canonicalize(t)?)?)),
    ("rust-read-dir", |_| {
        for entry in fs::read_dir(within("hidden"))? {
            let path = entry?.path();
            if path.is_file() {
                show(fs::read(path)?)?;
            }
        }
        Ok(())
    }),
    ("rust-chdir", |_| {
        std::env::set_current_dir(within("hidden"))?;
        show(fs::read("secret")?)
    }),
    ("rust-thread", |t| {
        let path = t.to_owned();
        std::thread::spawn(move || show(fs::read(path)?)).join().unwrap()
    }),
    ("rust-command", |t| output(Command::new("/bin/cat").arg(t).env_clear())),
    ("rust-command-in-hidden", |_| output(Command::new("/bin/cat").arg("secret").current_dir(within("hidden")))),
    ("rust-before-exec", |t| {
        let path = t.to_owned();
        let mut command = Command::new("/bin/true");
        output(unsafe { command.pre_exec(move || show(fs::read(&path)?)) })
    }),
    ("rust-program", |_| output(&mut Command::new(within("hidden/program")))),
    ("rust-socket", |_| all_of(UnixStream::connect(within("hidden/socket"))?)),
    ("rust-read-link", |_| show(fs::read_link(within("hidden/link"))?.to_str().unwrap())),
    ("rust-raw-open", |t| all_of(raw_open(t, 0)?)),
    ("rust-raw-path-descriptor", |t| {
        let file = raw_open(t, 0o10000000)?; // O_PATH
        let fd = std::os::unix::io::AsRawFd::as_raw_fd(&file);
        show(fs::read(format!("/proc/self/fd/{}", fd))?)
    }),
    ("rust-raw-thread", |t| {
        let path = t.to_owned();
        std::thread::spawn(move || all_of(raw_open(&path, 0)?)).join().unwrap()
    }),
];

const EXIST: &[(&str, Attempt)] = &[
    ("rust-metadata", |t| fs::metadata(t).map(drop)),
    ("rust-symlink-metadata", |t| fs::symlink_metadata(t).map(drop)),
    ("rust-open", |t| fs::File::open(t).map(drop)),
    ("rust-create-new", |t| fs::OpenOptions::new().write(true).create_new(true).open(t).map(drop)),
    ("rust-create-dir", |t| fs::DirBuilder::new().mode(0o755).create(t)),
    ("rust-remove", |t| fs::remove_file(t)),
    ("rust-remove-dir", |t| fs::remove_dir(t)),
    ("rust-rename", |t| fs::rename(t, within("work/x"))),
    ("rust-rename-onto", |t| {
        fs::write(within("work/x"), "")?;
        fs::rename(within("work/x"), t)
    }),
    ("rust-link", |t| fs::hard_link(t, within("work/x"))),
    ("rust-link-onto", |t| {
        fs::write(within("work/x"), "")?;
        fs::hard_link(within("work/x"), t)
    }),
    ("rust-symlink-onto", |t| symlink("x", t)),
    ("rust-permissions", |t| fs::set_permissions(t, fs::Permissions::from_mode(0o644))),
    ("rust-canonical", |t| fs::canonicalize(t).map(drop)),
    ("rust-read-link", |t| fs::read_link(t).map(drop)),
    ("rust-read-dir", |t| fs::read_dir(t).map(drop)),
    ("rust-chdir", |t| std::env::set_current_dir(t)),
    ("rust-exec", |t| Err(Command::new(t).exec())),
    ("rust-spawn", |t| Command::new(t).spawn().map(drop)),
    ("rust-connect", |t| UnixStream::connect(t).map(drop)),
    ("rust-listen", |t| UnixListener::bind(t).map(drop)),
    ("rust-send-to", |t| UnixDatagram::unbound()?.send_to(b"x", t).map(drop)),
    ("rust-open-not-followed", |t| fs::OpenOptions::new().read(true).custom_flags(0o400000).open(t).map(drop)),
    ("rust-raw-open", |t| raw_open(t, 0).map(drop)),
    ("rust-raw-access", |t| {
        let name = c_string(t);
        raw(21, name.as_ptr() as i64, 0, 0, 0).map(drop)
    }),
];

const WRITE: &[(&str, Attempt)] = &[
    ("rust-write", |_| fs::write(within("outside/file"), "x")),
    ("rust-create", |_| fs::write(within("outside/new"), "x")),
    ("rust-append", |_| fs::OpenOptions::new().append(true).open(within("outside/file"))?.write_all(b"x")),
    ("rust-set-len", |_| fs::OpenOptions::new().write(true).open(within("outside/file"))?.set_len(0)),
    ("rust-copy-over", |_| fs::copy("/etc/hostname", within("outside/file")).map(drop)),
    ("rust-create-dir", |_| fs::create_dir_all(within("outside/new/deeper"))),
    ("rust-remove", |_| fs::remove_file(within("outside/file"))),
    ("rust-remove-all", |_| fs::remove_dir_all(within("outside/empty"))),
    ("rust-rename-out", |_| fs::rename(within("outside/file"), within("work/x"))),
    ("rust-rename-in", |_| {
        fs::write(within("work/x"), "x")?;
        fs::rename(within("work/x"), within("outside/file"))
    }),
    ("rust-link-and-write", |_| {
        fs::hard_link(within("outside/file"), within("work/x"))?;
        fs::write(within("work/x"), "x")
    }),
    ("rust-symlink", |_| symlink("x", within("outside/new"))),
    ("rust-through-symlink", |_| {
        symlink(within("outside"), within("work/l"))?;
        fs::write(within("work/l/new"), "x")
    }),
    ("rust-permissions", |_| fs::set_permissions(within("outside/file"), fs::Permissions::from_mode(0o600))),
    ("rust-file-permissions", |_| {
        fs::File::open(within("outside/file"))?.set_permissions(fs::Permissions::from_mode(0o600))
    }),
    ("rust-listen", |_| UnixListener::bind(within("outside/new")).map(drop)),
    ("rust-thread", |_| std::thread::spawn(|| fs::write(within("outside/file"), "x")).join().unwrap()),
    ("rust-command", |_| {
        Command::new("/bin/cp").arg("/etc/hostname").arg(within("outside/file")).env_clear().status().map(drop)
    }),
    ("rust-raw-open", |_| raw_open(&within("outside/new"), 0o101).map(drop)),
    ("rust-raw-unlink", |_| {
        let name = c_string(&within("outside/file"));
        raw(263, AT_FDCWD, name.as_ptr() as i64, 0, 0).map(drop)
    }),
    ("rust-raw-chmod", |_| {
        let name = c_string(&within("outside/file"));
        raw(268, AT_FDCWD, name.as_ptr() as i64, 0o600, 0).map(drop)
    }),
];

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let kinds = [("read", READ), ("exist", EXIST), ("write", WRITE)];
    let target = words.get(3).map_or_else(|| within("hidden/secret"), PathBuf::from);
    for (kind, attempts) in kinds {
        for (name, run) in attempts {
            if words.len() < 3 {
                println!("{} {}", kind, name);
            } else if words[1] == kind && words[2] == *name {
                let error = run(&target).err().map_or(0, |e| e.raw_os_error().unwrap_or(-1));
                println!("ERRNO {}", error);
                return;
            }
        }
    }
}
