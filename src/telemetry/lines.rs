//! Lines on their way to standard error, through a thread of their own, so that a slow journal does not hold requests up. Under load many go
//! out with one write: a wake-up and a write for each were a tenth of what a small request costs.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that wait for a slow reader of the log before writers have to wait too.
const MOST_WAITING: usize = 4 << 20;
/// Room that is kept when nothing waits.
const KEPT: usize = 64 << 10;
/// How long lines gather after a write. The first after a pause goes out at once.
const GATHER: Duration = Duration::from_millis(20);
/// How long the end of the program waits for a reader of the log that does not read.
const FAREWELL: Duration = Duration::from_secs(1);

/// Takes lines.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    sleeps: bool,
    is_closed: bool,
}

/// Writes what waits when it is dropped.
#[derive(Debug)]
pub(super) struct Closing {
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

impl Shared {
    /// Whoever panics holds no half of a line.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins the thread that writes to `out`.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Lines, Closing)> {
    let shared = Arc::<Shared>::default();
    let (done, ended) = mpsc::channel();
    let writing = Arc::clone(&shared);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        write_all(&writing, out);
        // Nobody may wait any more.
        let _ = done.send(());
    })?;
    Ok((Lines(Arc::clone(&shared)), Closing { shared, ended }))
}

fn write_all(shared: &Shared, mut out: impl Write) {
    let mut batch = Vec::new();
    loop {
        let mut state = shared.state();
        while state.waiting.is_empty() {
            if state.is_closed {
                return;
            }
            batch.shrink_to(KEPT);
            state.waiting.shrink_to(KEPT);
            state.sleeps = true;
            state = shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.sleeps = false;
        std::mem::swap(&mut batch, &mut state.waiting);
        let is_closed = state.is_closed;
        drop(state);
        shared.emptied.notify_all();
        // Nobody is left to tell of an error.
        let _ = out.write_all(&batch).and_then(|()| out.flush());
        batch.clear();
        if !is_closed {
            std::thread::sleep(GATHER);
        }
    }
}

impl Lines {
    /// Takes a line.
    pub(super) fn take(&self, line: &[u8]) {
        let mut state = self.0.state();
        while state.waiting.len() >= MOST_WAITING && !state.is_closed {
            state = self.0.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.extend_from_slice(line);
        let sleeps = std::mem::take(&mut state.sleeps);
        drop(state);
        if sleeps {
            self.0.filled.notify_one();
        }
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.filled.notify_one();
        self.shared.emptied.notify_all();
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut written = self.0.lock().expect("no panic");
            written.0.extend_from_slice(bytes);
            written.1 += 1;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_of_every_thread_is_written_whole_before_the_end_and_many_go_together() {
        let written = Written::default();
        let (lines, closing) = start(written.clone()).expect("a thread");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let lines = &lines;
                scope.spawn(move || {
                    for number in 0..10_000 {
                        (&*lines).write_all(format!("{thread} {number}\n").as_bytes()).expect("written");
                    }
                });
            }
        });
        drop(closing);
        let (text, writes) = std::mem::take(&mut *written.0.lock().expect("no panic"));
        let text = String::from_utf8(text).expect("text");
        for thread in 0..4 {
            let numbers = text.lines().filter_map(|line| line.strip_prefix(&format!("{thread} ")));
            assert!(numbers.eq((0..10_000).map(|number| number.to_string())), "of thread {thread}");
        }
        assert!(writes < 20_000, "{writes} writes");
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_writers_and_not_the_end_for_ever() {
        struct Stuck(mpsc::Sender<()>);
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                self.0.send(()).expect("somebody waits for it");
                loop {
                    std::thread::park();
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, is_stuck) = mpsc::channel();
        let (lines, closing) = start(Stuck(sender)).expect("a thread");
        lines.take(b"the last that is taken away\n");
        is_stuck.recv().expect("it writes");
        let filling = lines.clone();
        let filler = std::thread::spawn(move || {
            for _ in 0..=2 * MOST_WAITING / 1024 {
                (&filling).write_all(&[b'x'; 1024]).expect("written");
            }
        });
        drop(closing);
        filler.join().expect("let go of at the end");
        assert!(lines.0.state().waiting.len() >= MOST_WAITING);
    }
}
