//! What the controller tells the metrics.

use super::{World, down, in_project, object, seconds, synced, unchanged, world, world_of};
use crate::reconcile::Outcome;

impl World {
    fn metric(&self, series: &str) -> Option<f64> {
        let text = self.controller.metrics.render();
        let wanted = format!("{series} ");
        text.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok())
    }

    fn queue_metric(&self, name: &str) -> f64 {
        let labels = "{controller=\"openstackconfig\",name=\"openstackconfig\"}";
        self.metric(&format!("workqueue_{name}{labels}")).unwrap()
    }

    fn results(&self, result: &str) -> f64 {
        let labels = format!("{{controller=\"openstackconfig\",result=\"{result}\"}}");
        self.metric(&format!("controller_runtime_reconcile_total{labels}")).unwrap()
    }
}

#[test]
fn the_metrics_tell_how_long_objects_waited_and_how_their_syncs_ended() {
    let mut world = world_of(1);
    assert_eq!(world.results("success"), 0.0);
    world.list(&[object("a"), in_project("project-2", object("b"))]);
    assert_eq!((world.queue_metric("adds_total"), world.queue_metric("depth")), (2.0, 1.0));
    world.wait(3);
    world.controller.publish_gauges(world.now);
    assert_eq!(world.queue_metric("longest_running_processor_seconds"), 3.0);
    assert_eq!(world.queue_metric("unfinished_work_seconds"), 3.0);
    world.finish("a", down);
    assert_eq!(world.queue_metric("queue_duration_seconds_count"), 2.0);
    assert_eq!(world.queue_metric("queue_duration_seconds_sum"), 3.0);
    assert_eq!(world.queue_metric("retries_total"), 1.0);
    world.finish("b", |job| Outcome { aborted: true, ..down(job) });
    world.controller.publish_gauges(world.now);
    assert_eq!(world.queue_metric("longest_running_processor_seconds"), 0.0);
    // "a" is due again by time alone.
    world.until_due();
    assert_eq!(world.queue_metric("adds_total"), 3.0);
    let ended =
        ["success", "error", "requeue", "requeue_after"].map(|result| world.results(result));
    assert_eq!(ended, [0.0, 1.0, 1.0, 0.0]);
    assert_eq!(world.queue_metric("work_duration_seconds_sum"), 2.0);
}

#[test]
fn an_object_that_another_pass_was_in_the_way_of_is_counted_as_postponed() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |work| Outcome { later: true, ..unchanged(work) });
    assert_eq!(world.results("requeue_after"), 1.0);
}

#[test]
fn the_gauges_say_since_when_the_oldest_trouble_of_each_kind_lasts() {
    let mut world = world();
    world.list(&[object("a"), object("b"), object("c")]);
    world.controller.publish_gauges(world.now);
    let objects = |world: &World, ready: &str, reason: &str| {
        world.metric(&format!("multinic_objects{{ready=\"{ready}\",reason=\"{reason}\"}}"))
    };
    assert_eq!(objects(&world, "Unknown", "Pending"), Some(3.0));
    world.finish("a", down);
    let since = world.now.wall.as_second() as f64;
    world.now = world.now.after(seconds(5));
    world.finish("b", down);
    world.finish("c", unchanged);
    world.controller.publish_gauges(world.now);
    let oldest = |world: &World| {
        world.metric("multinic_not_ready_since_timestamp_seconds{reason=\"KeystoneError\"}")
    };
    assert_eq!(objects(&world, "Unknown", "Pending"), None);
    assert_eq!(objects(&world, "False", "KeystoneError"), Some(2.0));
    assert_eq!(objects(&world, "True", "NoChange"), Some(1.0));
    assert_eq!(oldest(&world), Some(since));
    world.delete(&object("a"));
    world.controller.publish_gauges(world.now);
    assert_eq!(oldest(&world), Some(since + 5.0));
    world.delete(&object("b"));
    world.controller.publish_gauges(world.now);
    assert_eq!(oldest(&world), None);
}

#[test]
fn ports_that_were_down_stay_counted_while_nobody_can_look_at_them() {
    let mut world = world();
    world.apply(object("a"));
    world.finish("a", |job| Outcome { down_ports: 2, ..synced(job) });
    world.until_due();
    world.finish("a", down);
    world.controller.publish_gauges(world.now);
    assert_eq!(world.metric("multinic_down_ports"), Some(2.0));
    world.until_due();
    world.finish("a", unchanged);
    world.controller.publish_gauges(world.now);
    assert_eq!(world.metric("multinic_down_ports"), Some(0.0));
}
