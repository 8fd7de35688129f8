//! What is done to the process in a period, and when.

use std::time::Duration;

use crate::soak::process::Disturbance;
use crate::soak::run::Soak;

impl Soak {
    /// What is done to the process in a period, and when. Some periods are one long life, so that
    /// it is seen whether anything grows.
    pub(crate) fn schedule(&mut self, period: u32) -> Vec<(u64, Disturbance)> {
        let faults = self.plan.faults.as_secs();
        let jumps = self.process.has_clock() && self.has_clock_now(period);
        let random = &mut self.random;
        let seconds =
            |random: &mut fastrand::Rng, from, to| Duration::from_secs(random.u64(from..to));
        let mut disturbances = Vec::new();
        if !self.plan.is_whole {
            let pause = seconds(random, 1, 3);
            disturbances =
                vec![Disturbance::Kill, Disturbance::Terminate, Disturbance::Pause(pause)];
            disturbances
                .push(Disturbance::FewDescriptors(random.usize(0..6), seconds(random, 2, 4)));
        } else if period % 7 < 4 {
            disturbances.push(Disturbance::Pause(seconds(random, faults / 4, faults / 2)));
            disturbances.push(Disturbance::Pause(seconds(random, 2, 20)));
            disturbances.push(Disturbance::DiskFull(seconds(random, 5, 40)));
            if jumps {
                for _ in 0..4 {
                    let jump = random.choice([-86_400, -3600, -30, 30, 3600, 86_400]).unwrap();
                    disturbances.push(Disturbance::ClockJump(jump + random.i64(-5..5)));
                }
            } else {
                for _ in 0..3 {
                    let count = random.usize(0..10);
                    disturbances.push(Disturbance::FewDescriptors(count, seconds(random, 5, 30)));
                }
            }
        } else {
            for _ in 0..12 {
                disturbances.push(Disturbance::Kill);
            }
            for _ in 0..5 {
                disturbances.push(Disturbance::Terminate);
            }
            for _ in 0..3 {
                let more = random.u64(0..400 << 10);
                disturbances.push(Disturbance::LittleMemory(more, seconds(random, 5, 15)));
                let count = random.usize(0..10);
                disturbances.push(Disturbance::FewDescriptors(count, seconds(random, 3, 15)));
                disturbances.push(Disturbance::DiskFull(seconds(random, 3, 20)));
                disturbances.push(Disturbance::DiskReadOnly(seconds(random, 3, 20)));
            }
            disturbances.push(Disturbance::Pause(seconds(random, 3, 30)));
        }
        let small = self.process.disk.is_small();
        disturbances.retain(|disturbance| {
            small || !matches!(disturbance, Disturbance::DiskFull(_) | Disturbance::DiskReadOnly(_))
        });
        let (begin, length) = (self.now(), self.plan.faults.as_millis() as u64);
        let random = &mut self.random;
        let mut schedule: Vec<(u64, Disturbance)> = disturbances
            .into_iter()
            .map(|disturbance| (begin + random.u64(length / 20..length * 19 / 20), disturbance))
            .collect();
        schedule.sort_by_key(|(at, _)| *at);
        schedule
    }

    /// Lives with a clock that jumps and lives with few descriptors take turns.
    pub(crate) fn has_clock_now(&self, period: u32) -> bool {
        (period / 7).is_multiple_of(2)
    }
}
