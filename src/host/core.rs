//! The core that a thread is on. It knows nothing of what the thread does.

/// A core of this machine; none where the system does not tell.
#[derive(Debug, Clone, Copy)]
pub struct Core(#[cfg_attr(not(target_os = "linux"), allow(dead_code))] Option<usize>);

impl Core {
    /// Where this thread is now.
    pub fn current() -> Self {
        #[cfg(target_os = "linux")]
        return Self(Some(rustix::thread::sched_getcpu()));
        #[cfg(not(target_os = "linux"))]
        Self(None)
    }

    /// How many this process may use. A quota of a control group is not asked for, which costs as much as 100
    /// `stat` calls: for work of milliseconds, by few threads.
    pub fn count() -> usize {
        #[cfg(target_os = "linux")]
        if let Ok(all) = rustix::thread::sched_getaffinity(None) {
            return all.count() as usize;
        }
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Lets a thread that this one just started have its first turn, and so leave: one that shares the core of
    /// its maker may otherwise wait 4 ms for it.
    pub fn give_turn() {
        std::thread::yield_now();
    }

    /// Has this thread leave that core for any other, where it is on it. There are kernels that start a thread
    /// where its maker is and let both share that core until they balance, 3 ms later (seen: Linux 6.18 in a
    /// Firecracker guest; 6,000 `stat` by two threads took 14 ms, and 9.5 ms with this).
    pub fn leave(self) {
        #[cfg(target_os = "linux")]
        if let (Some(core), Ok(all)) = (self.0, rustix::thread::sched_getaffinity(None))
            && Self::current().0 == self.0
            && all.count() > 1
            && core < rustix::thread::CpuSet::MAX_CPU
        {
            let mut others = all;
            others.unset(core);
            // It is moved at once, and may be anywhere from then on.
            if rustix::thread::sched_setaffinity(None, &others).is_ok() {
                let _ = rustix::thread::sched_setaffinity(None, &all);
            }
        }
    }
}
