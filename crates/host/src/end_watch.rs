//! Waiting for the end of many processes at once, in one thread: whoever lent something to a process gets it back as
//! soon as the process is gone, however it went.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokensink_types::ProcessId;

/// The thread that waits. It ends when this is dropped.
#[derive(Debug)]
pub struct EndWatch {
    news: Sender<Watched>,
    wake: Mutex<PipeWriter>,
}

#[derive(Debug)]
struct Watched {
    process: ProcessId,
    end: Arc<OwnedFd>,
}

impl EndWatch {
    /// Waits for nobody yet. `told` is called, in the waiting thread, once for each process that has ended.
    ///
    /// # Errors
    /// When the system gives no thread or descriptor.
    pub fn start(told: impl Fn(&ProcessId) + Send + 'static) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let (news, heard) = mpsc::channel();
        thread::Builder::new()
            .name("ends".to_owned())
            .spawn(move || wait(reader, &heard, &told))?;
        Ok(Self {
            news,
            wake: Mutex::new(writer),
        })
    }

    /// Waits for the end of `process` as well; `end` is what [`crate::Processes::end_of`] gave.
    pub fn watch(&self, process: ProcessId, end: Arc<OwnedFd>) {
        // The thread lives as long as we do.
        let _sent = self.news.send(Watched { process, end });
        let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = wake.write_all(&[1]) {
            tracing::warn!(%error, "the end of a process is noticed late");
        }
    }
}

fn wait(mut wake: PipeReader, news: &Receiver<Watched>, told: &dyn Fn(&ProcessId)) {
    let mut watched: Vec<Watched> = Vec::new();
    loop {
        let mut fds = vec![PollFd::new(&wake, PollFlags::IN)];
        fds.extend(watched.iter().map(|one| PollFd::new(&one.end, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "the ends of processes are noticed no longer");
                return;
            }
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut ended = ready.iter().skip(1);
        watched.retain(|one| {
            let has_ended = ended.next().is_some_and(|ready| *ready);
            if has_ended {
                told(&one.process);
            }
            !has_ended
        });
        if ready.first() == Some(&true) {
            match wake.read(&mut [0; 64]) {
                Ok(1..) => watched.extend(news.try_iter()),
                // Nobody is left to tell.
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::mpsc::RecvTimeoutError;
    use std::time::Duration;

    use super::*;
    use crate::{OsProcesses, Processes};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "real processes that end")]
    fn each_end_is_told_once() {
        let (sender, ended) = mpsc::channel();
        let watch = EndWatch::start(move |process| sender.send(process.pid).unwrap()).unwrap();
        let processes = OsProcesses::new();
        let mut children: Vec<_> = (0..5)
            .map(|_| Command::new("cat").stdin(Stdio::piped()).spawn().unwrap())
            .collect();
        for child in &children {
            let process = processes.identify(child.id()).unwrap();
            let end = processes.end_of(child.id()).unwrap().unwrap();
            watch.watch(process, Arc::new(end));
        }
        for child in children.iter_mut().rev() {
            child.kill().unwrap();
            assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(child.id()));
            child.wait().unwrap();
        }
        drop(watch);
        let rest = ended.recv_timeout(Duration::from_secs(20));
        assert_eq!(rest, Err(RecvTimeoutError::Disconnected), "the thread is gone");
    }
}
