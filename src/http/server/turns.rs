//! Turns at writing long answers.
//!
//! A crowd that asks for long answers at the same time gets none of them sooner by all being
//! written at once: the threads take the processors from each other and from the readers, what is
//! written leaves the cache before it is read, and chance decides who is forgotten. So few are
//! written at a time, in the order in which they were asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// While one waits for its reader, another works.
const TURNS_FOR_EACH_PROCESSOR: usize = 2;

/// A bounded number of turns, and the line of those who wait for one.
pub(super) struct Turns {
    line: Mutex<Line>,
}

struct Line {
    free: usize,
    /// Numbers whoever comes next.
    next: u64,
    /// Who hasn't been called yet, in the order of coming.
    waiting: VecDeque<(u64, Arc<Condvar>)>,
}

/// The right to write, given on when dropped.
pub(super) struct Turn<'a>(&'a Turns);

impl Turns {
    /// As many as this machine has a use for.
    pub(super) fn for_this_machine() -> Turns {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Turns::new(processors * TURNS_FOR_EACH_PROCESSOR)
    }

    fn new(free: usize) -> Turns {
        Turns { line: Mutex::new(Line { free, next: 0, waiting: VecDeque::new() }) }
    }

    /// Waits in line; none if that takes longer than the limit.
    pub(super) fn take(&self, limit: Duration) -> Option<Turn<'_>> {
        let mut line = self.line();
        if line.free > 0 {
            line.free -= 1;
            return Some(Turn(self));
        }
        let (number, called) = (line.next, Arc::<Condvar>::default());
        line.next += 1;
        line.waiting.push_back((number, called.clone()));
        let in_line = |line: &mut Line| line.position(number).is_some();
        let waited = called.wait_timeout_while(line, limit, in_line);
        let (mut line, _) = waited.unwrap_or_else(|held| held.into_inner());
        match line.position(number) {
            None => Some(Turn(self)),
            Some(position) => {
                line.waiting.remove(position);
                None
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // The line is whole at every statement, so a panic elsewhere needn't spread.
        self.line.lock().unwrap_or_else(|held| held.into_inner())
    }
}

impl Line {
    fn position(&self, number: u64) -> Option<usize> {
        self.waiting.iter().position(|(waiting, _)| *waiting == number)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        match line.waiting.pop_front() {
            Some((_, called)) => called.notify_one(),
            None => line.free += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    fn wait_until_in_line(turns: &Turns, count: usize) {
        while turns.line().waiting.len() < count {
            thread::yield_now();
        }
    }

    #[test]
    fn turns_come_in_the_order_of_asking() {
        let turns = Turns::new(1);
        let (came, order) = mpsc::channel();
        thread::scope(|scope| {
            let first = turns.take(LONG);
            for number in 0..5 {
                let (turns, came) = (&turns, came.clone());
                scope.spawn(move || {
                    let _turn = turns.take(LONG);
                    came.send(number).unwrap();
                });
                wait_until_in_line(turns, number + 1);
            }
            drop(first);
        });
        drop(came);
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(turns.line().free, 1);
    }

    #[test]
    fn no_more_have_a_turn_than_there_are_turns_and_nobody_waits_for_ever() {
        let turns = Turns::new(2);
        let held = (turns.take(LONG), turns.take(LONG));
        assert!(held.0.is_some() && held.1.is_some());
        assert!(turns.take(Duration::from_millis(1)).is_none());
        // Whoever gave up isn't called any more.
        drop(held);
        let line = turns.line();
        assert_eq!((line.waiting.len(), line.free), (0, 2));
    }
}
