//! Runs a child process: its own process group, a time limit, no terminal, the end of what it said.
//! It knows nothing of what a command means.

use std::{
    ffi::OsStr,
    fmt,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt, process::CommandExt, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use os_pipe::{PipeReader, PipeWriter};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio},
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use zeroize::Zeroizing;

/// How long a child that is being ended gets between TERM and KILL.
pub const GRACE: Duration = Duration::from_secs(5);

/// Bytes kept of what a child said.
const TAIL: usize = 64 * 1024;

/// Most bytes taken from a child's captured standard output.
const STDOUT_LIMIT: usize = 64 * 1024 * 1024;

/// Most bytes read after the child's end; no pipe holds more, so what is left comes from others.
const DRAIN: usize = 1024 * 1024;

/// A child process to run.
#[derive(Clone, Default)]
pub struct Command {
    /// A name to be found in `PATH`, or a path.
    pub program: String,
    /// Its arguments, without the program.
    pub args: Vec<String>,
    /// Its working directory; `None` for this process's own.
    pub dir: Option<PathBuf>,
    /// Variables set on top of this process's own.
    pub env: Vec<(String, String)>,
    /// What it reads; `None` gives it an empty standard input.
    pub stdin: Option<Zeroizing<Vec<u8>>>,
    /// After this long it is ended.
    pub timeout: Option<Duration>,
    /// Whether its standard output is returned whole, instead of joining the tail.
    pub capture_stdout: bool,
}

/// Never shows standard input, which may hold a private key.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("dir", &self.dir)
            .field(
                "env",
                &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .field("stdin_bytes", &self.stdin.as_ref().map(|s| s.len()))
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal, sent by somebody else.
    Signal(i32),
    /// Ended here, at its time limit.
    TimedOut,
    /// Ended, or never started, because the run was interrupted.
    Interrupted,
}

/// What a child leaves behind.
#[derive(Clone)]
pub struct Finished {
    /// How it ended.
    pub status: Exit,
    /// Its standard output, where that was asked for. It may hold a live cluster's key.
    pub stdout: Zeroizing<Vec<u8>>,
    /// The last 64 KiB of what it said: standard error, and standard output where not captured.
    pub tail: String,
}

/// Never shows standard output, which may hold a private key.
impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished")
            .field("status", &self.status)
            .field("stdout_bytes", &self.stdout.len())
            .field("tail", &self.tail)
            .finish()
    }
}

impl Finished {
    /// True where the child ended by itself with code 0.
    pub fn success(&self) -> bool {
        self.status == Exit::Code(0)
    }

    fn interrupted() -> Self {
        Self {
            status: Exit::Interrupted,
            stdout: Zeroizing::default(),
            tail: String::new(),
        }
    }
}

/// Ends all running children when the user asks for it. Clones share one state.
#[derive(Clone)]
pub struct Interrupt {
    grace: Duration,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The first signal that came; 0 for none. Everybody asks for it at any time, and waits for nobody.
    signal: AtomicI32,
    /// Held by many while they start a child each, which takes about 1 ms, and by who ends them all alone.
    starting: RwLock<()>,
    live: Mutex<Vec<Live>>,
}

struct Live {
    group: Pid,
    wake: PipeWriter,
}

impl Interrupt {
    /// Nothing is interrupted yet; `grace` is what children get between TERM and KILL.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            state: Arc::default(),
        }
    }

    /// Marks the run as interrupted, and passes the signal on to all running children. Those that
    /// outlive the grace are killed.
    pub fn signal(&self, signal: i32) {
        self.end_all(signal, Signal::from_named_raw(signal));
    }

    /// Kills all running children at once.
    pub fn kill_all(&self) {
        self.end_all(Signal::INT.as_raw(), Some(Signal::KILL));
    }

    /// From here on no child is started, and none that was is missed.
    fn end_all(&self, came: i32, sent: Option<Signal>) {
        let state = &self.state;
        let order = Ordering::SeqCst;
        let _ = state.signal.compare_exchange(0, came, order, order);
        let _nobody_starts = state
            .starting
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for live in &mut *self.live() {
            end_group(live.group, sent.unwrap_or(Signal::TERM));
            // A full pipe has already woken its reader.
            let _ = live.wake.write(&[1]);
        }
    }

    /// The first signal that came, if any.
    pub fn received(&self) -> Option<i32> {
        let signal = self.state.signal.load(Ordering::SeqCst);
        (signal != 0).then_some(signal)
    }

    /// True once the run is interrupted.
    pub fn is_set(&self) -> bool {
        self.received().is_some()
    }

    /// Starts a child so that no signal falls between its start and its entry here.
    fn start(
        &self,
        expression: &duct::Expression,
        wake: PipeWriter,
    ) -> io::Result<Option<(duct::Handle, Pid)>> {
        let starting = &self.state.starting;
        let _starting = starting.read().unwrap_or_else(PoisonError::into_inner);
        if self.is_set() {
            return Ok(None);
        }
        let handle = expression.start()?;
        let pid = handle
            .pids()
            .first()
            .and_then(|&p| Pid::from_raw(i32::try_from(p).ok()?));
        let group = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
        self.live().push(Live { group, wake });
        Ok(Some((handle, group)))
    }

    fn forget(&self, group: Pid) {
        self.live().retain(|live| live.group != group);
    }

    fn live(&self) -> MutexGuard<'_, Vec<Live>> {
        let live = &self.state.live;
        live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt")
            .field("received", &self.received())
            .finish_non_exhaustive()
    }
}

/// Runs a child to its end. `on_start` gets its process id, which is its process group too.
///
/// Nothing waits for grandchildren that keep a pipe open: what a child said is what was there at its
/// own end. At the time limit, or when interrupted, the whole group gets TERM (or the user's signal),
/// and after the grace KILL.
///
/// # Errors
/// The program cannot be started, or wrote more than 64 MiB to a captured standard output.
pub fn run(
    command: &Command,
    interrupt: &Interrupt,
    on_start: &mut dyn FnMut(u32),
) -> io::Result<Finished> {
    let mut said = Outlet {
        sink: Sink::new(TAIL, false),
        pipe: None,
    };
    let mut stdout = Outlet {
        sink: Sink::new(STDOUT_LIMIT, true),
        pipe: None,
    };
    let (mut wake_read, wake_write) = os_pipe::pipe()?;

    let mut expression = duct::cmd(&command.program, &command.args)
        .unchecked()
        .before_spawn(|c| {
            c.process_group(0);
            Ok(())
        });
    expression = if command.capture_stdout {
        expression.stdout_file(stdout.open()?)
    } else {
        expression.stdout_to_stderr()
    };
    // duct applies the last one first, so "to standard error" means this pipe.
    expression = expression.stderr_file(said.open()?);
    let mut stdin = None;
    expression = match &command.stdin {
        None => expression.stdin_null(),
        Some(bytes) => {
            let (reader, writer) = os_pipe::pipe()?;
            ioctl_fionbio(&writer, true)?;
            stdin = Some((writer, bytes.as_slice()));
            expression.stdin_file(reader)
        }
    };
    let (mark, run) = super::lock::mark();
    expression = expression.env(mark, run);
    if let Some(dir) = &command.dir {
        expression = expression.dir(dir);
    }
    for (name, value) in &command.env {
        expression = expression.env(name, value);
    }

    let started = interrupt
        .start(&expression, wake_write)
        .map_err(|e| explain(e, command))?;
    // The expression owns our copies of the child's pipe ends; no pipe ends while they are open.
    drop(expression);
    let Some((handle, group)) = started else {
        return Ok(Finished::interrupted());
    };
    on_start(group.as_raw_nonzero().get().unsigned_abs());

    let mut ending = None;
    let watched = thread::scope(|scope| {
        // Tells of the child's end and does not reap it: until the end of this function the process id stays
        // taken, so a signal to the group cannot reach a stranger.
        let exit = match pidfd(group) {
            Some(fd) => fd,
            None => {
                let (exit, end) = os_pipe::pipe()?;
                scope.spawn(move || {
                    let _end = end;
                    while let Err(Errno::INTR) = waitid(
                        WaitId::Pid(group),
                        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
                    ) {}
                });
                exit.into()
            }
        };
        let mut watch = Watch {
            exit,
            wake: &mut wake_read,
            stdin,
            said: &mut said,
            stdout: &mut stdout,
            buffer: Zeroizing::new(vec![0; 16 * 1024]),
        };
        let result = watch.until_end(group, command.timeout, interrupt.grace);
        if !matches!(result, Ok(None)) {
            // Also after an error of ours: the scope's end would wait for the child for ever.
            end_group(group, Signal::KILL);
        }
        result
    });
    match watched {
        Ok(why) => ending = why,
        Err(e) => said.sink.failed = Some(e),
    }
    interrupt.forget(group);
    let exit = handle.wait()?.status;
    if let Some(e) = said.sink.failed.take().or(stdout.sink.failed.take()) {
        return Err(e);
    }
    Ok(Finished {
        status: ending.unwrap_or_else(|| match (exit.code(), exit.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        }),
        stdout: stdout.sink.bytes,
        tail: said.sink.text(),
    })
}

/// What can be polled for a child's end, on a Linux that has it (5.3).
fn pidfd(child: Pid) -> Option<OwnedFd> {
    #[cfg(target_os = "linux")]
    return rustix::process::pidfd_open(child, rustix::process::PidfdFlags::empty()).ok();
    #[cfg(not(target_os = "linux"))]
    None
}

/// All that a running child's thread listens to.
struct Watch<'a> {
    exit: OwnedFd,
    wake: &'a mut PipeReader,
    stdin: Option<(PipeWriter, &'a [u8])>,
    said: &'a mut Outlet,
    stdout: &'a mut Outlet,
    buffer: Zeroizing<Vec<u8>>,
}

impl Watch<'_> {
    /// Serves the child's pipes until it has exited. Returns why it was ended, if it was.
    fn until_end(
        &mut self,
        group: Pid,
        limit: Option<Duration>,
        grace: Duration,
    ) -> io::Result<Option<Exit>> {
        // A limit beyond what the clock can count is none.
        let mut deadline = limit.and_then(|l| Instant::now().checked_add(l));
        let mut ending = None;
        let mut exited = false;
        loop {
            let ready = self.listen(exited, deadline)?;
            exited |= ready.exit;
            if ready.wake {
                self.wake.read_exact(&mut [0])?;
                if ending.is_none() {
                    ending = Some(Exit::Interrupted);
                    deadline = Instant::now().checked_add(grace);
                }
            }
            self.feed();
            self.said.read(&mut self.buffer);
            self.stdout.read(&mut self.buffer);
            // Of a child that is being ended, the group may still be cleaning up behind its leader.
            let left = ending.is_some() && (self.said.pipe.is_some() || self.stdout.pipe.is_some());
            let late = deadline.is_some_and(|d| Instant::now() >= d);
            if exited && (!left || late) {
                return Ok(ending);
            }
            if late && ending.is_none() {
                end_group(group, Signal::TERM);
                ending = Some(Exit::TimedOut);
                deadline = Instant::now().checked_add(grace);
            } else if late {
                end_group(group, Signal::KILL);
                deadline = None;
            }
        }
    }

    /// Blocks until there is something to do, or until the deadline.
    fn listen(&self, exited: bool, deadline: Option<Instant>) -> io::Result<Ready> {
        let mut fds = vec![PollFd::new(&*self.wake, PollFlags::IN)];
        // Once closed it would be ready for ever.
        if !exited {
            fds.push(PollFd::new(&self.exit, PollFlags::IN));
        }
        fds.extend(
            self.stdin
                .iter()
                .map(|(pipe, _)| PollFd::new(pipe, PollFlags::OUT)),
        );
        fds.extend(
            [&*self.said, &*self.stdout]
                .into_iter()
                .filter_map(|o| Some(PollFd::new(o.pipe.as_ref()?, PollFlags::IN))),
        );
        let timeout = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(Ready {
            wake: !fds[0].revents().is_empty(),
            exit: !exited && !fds[1].revents().is_empty(),
        })
    }

    /// Writes as much of standard input as the child takes now. One that stops reading has its reasons.
    fn feed(&mut self) {
        while let Some((pipe, rest)) = &mut self.stdin {
            match pipe.write(rest) {
                Ok(n) if n < rest.len() => *rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => self.stdin = None,
            }
        }
    }
}

struct Ready {
    exit: bool,
    wake: bool,
}

/// A pipe that the child writes to, and what came out of it.
struct Outlet {
    pipe: Option<PipeReader>,
    sink: Sink,
}

impl Outlet {
    /// Makes the pipe; returns the child's end.
    fn open(&mut self) -> io::Result<PipeWriter> {
        let (reader, writer) = os_pipe::pipe()?;
        ioctl_fionbio(reader.as_fd(), true)?;
        self.pipe = Some(reader);
        Ok(writer)
    }

    /// Takes what is there now, a buffer at a time, and no more than about what a pipe holds.
    fn read(&mut self, buffer: &mut [u8]) {
        let mut total = 0;
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(buffer) {
                Ok(n) if n > 0 => {
                    self.sink.take(&buffer[..n]);
                    total += n;
                    if total >= DRAIN {
                        return;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => self.pipe = None,
            }
        }
    }
}

struct Sink {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
    whole: bool,
    cut: bool,
    failed: Option<io::Error>,
}

impl Sink {
    fn new(limit: usize, whole: bool) -> Self {
        Self {
            bytes: Zeroizing::default(),
            limit,
            whole,
            cut: false,
            failed: None,
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let wanted = self.bytes.len() + bytes.len();
        if wanted > self.bytes.capacity() {
            // By hand, since what a vector leaves behind as it grows is not wiped.
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * wanted));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(bytes);
        if self.whole && self.bytes.len() > self.limit {
            self.failed = Some(io::Error::other(
                "it wrote more than 64 MiB to standard output",
            ));
        } else if self.bytes.len() > 2 * self.limit {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let over = self.bytes.len().saturating_sub(self.limit);
        self.bytes.drain(..over);
        self.cut |= over > 0;
    }

    fn text(mut self) -> String {
        self.shorten();
        // A cut may fall inside a character; its rest is noise.
        let start = if self.cut {
            self.bytes.iter().take_while(|&&b| b & 0xc0 == 0x80).count()
        } else {
            0
        };
        String::from_utf8_lossy(&self.bytes[start..]).into_owned()
    }
}

/// A group whose last member is gone is no error.
fn end_group(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

fn explain(error: io::Error, command: &Command) -> io::Error {
    let program = &command.program;
    let text = match (&command.dir, error.kind()) {
        (Some(dir), _) if !dir.is_dir() => format!(
            "cannot run {program}: its working directory {} is no folder",
            dir.display()
        ),
        (_, io::ErrorKind::NotFound) if !program.contains('/') => {
            format!("cannot run {program}: no program of that name in PATH")
        }
        (_, io::ErrorKind::NotFound) => {
            format!(
                "cannot run {program}: there is no such file, or what its first line names is missing"
            )
        }
        (_, io::ErrorKind::PermissionDenied) => {
            format!("cannot run {program}: it is not executable (chmod +x)")
        }
        _ => format!("cannot run {program}: {error}"),
    };
    io::Error::new(error.kind(), text)
}

/// Where a program is: itself if its name holds a separator, else the first of that name in `path`
/// (a value of `PATH`). `None` where that is no executable file.
pub fn path_lookup(program: &str, path: &OsStr) -> Option<PathBuf> {
    let runs = |file: &Path| {
        file.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        let file = PathBuf::from(program);
        return runs(&file).then_some(file);
    }
    std::env::split_paths(path)
        .map(|dir| dir.join(program))
        .find(|file| !program.is_empty() && runs(file))
}
