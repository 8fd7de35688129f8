//! What is done to the process in a period, and when.

use std::time::Duration;

use crate::campaign::Campaign;
use crate::life::Blow;

impl Campaign {
    /// What is done to the process in a period, and when. Some periods are one long life, so that
    /// it is seen whether anything grows.
    pub(crate) fn agenda(&mut self, period: u32) -> Vec<(u64, Blow)> {
        let trouble = self.plan.trouble.as_secs();
        let jumps = self.life.has_clock() && self.has_clock_now(period);
        let random = &mut self.random;
        let seconds =
            |random: &mut fastrand::Rng, from, to| Duration::from_secs(random.u64(from..to));
        let mut blows = Vec::new();
        if !self.plan.is_whole {
            let pause = seconds(random, 1, 3);
            blows = vec![Blow::Kill, Blow::Terminate, Blow::Pause(pause)];
            blows.push(Blow::FewDescriptors(random.usize(0..6), seconds(random, 2, 4)));
        } else if period % 7 < 4 {
            blows.push(Blow::Pause(seconds(random, trouble / 4, trouble / 2)));
            blows.push(Blow::Pause(seconds(random, 2, 20)));
            blows.push(Blow::DiskFull(seconds(random, 5, 40)));
            if jumps {
                for _ in 0..4 {
                    let jump = random.choice([-86_400, -3600, -30, 30, 3600, 86_400]).unwrap();
                    blows.push(Blow::ClockJump(jump + random.i64(-5..5)));
                }
            } else {
                for _ in 0..3 {
                    let count = random.usize(0..10);
                    blows.push(Blow::FewDescriptors(count, seconds(random, 5, 30)));
                }
            }
        } else {
            for _ in 0..12 {
                blows.push(Blow::Kill);
            }
            for _ in 0..5 {
                blows.push(Blow::Terminate);
            }
            for _ in 0..3 {
                let more = random.u64(0..400 << 10);
                blows.push(Blow::LittleMemory(more, seconds(random, 5, 15)));
                let count = random.usize(0..10);
                blows.push(Blow::FewDescriptors(count, seconds(random, 3, 15)));
                blows.push(Blow::DiskFull(seconds(random, 3, 20)));
                blows.push(Blow::DiskReadOnly(seconds(random, 3, 20)));
            }
            blows.push(Blow::Pause(seconds(random, 3, 30)));
        }
        let small = self.life.disk.is_small();
        blows.retain(|blow| small || !matches!(blow, Blow::DiskFull(_) | Blow::DiskReadOnly(_)));
        let (begin, length) = (self.now(), self.plan.trouble.as_millis() as u64);
        let random = &mut self.random;
        let mut agenda: Vec<(u64, Blow)> = blows
            .into_iter()
            .map(|blow| (begin + random.u64(length / 20..length * 19 / 20), blow))
            .collect();
        agenda.sort_by_key(|(at, _)| *at);
        agenda
    }

    /// Lives with a clock that jumps and lives with few descriptors take turns.
    pub(crate) fn has_clock_now(&self, period: u32) -> bool {
        (period / 7).is_multiple_of(2)
    }
}
