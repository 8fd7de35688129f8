//! How requests are made up, and what follows from each kind of answer.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{names, node, nodes};
use crate::config::{Config, Settings};
use crate::http::client::{Answer, Clients, Failure, Request, Transport};
use crate::node_config::NodeConfig;
use crate::targets::Delivery;
use crate::targets::viola::{MAX_BYTES, MAX_NODES, PATH, Viola, bodies};

/// Answers by the names of the nodes it is sent, and notes them.
struct Service<F> {
    answer: F,
    asked: Mutex<Vec<Vec<String>>>,
}

type Reply = Result<(u16, String), Failure>;

impl<F: Fn(&[String]) -> Reply + Send + Sync + 'static> Service<F> {
    fn new(answer: F) -> Arc<Service<F>> {
        Arc::new(Service { answer, asked: Mutex::default() })
    }

    /// The numbers of nodes of the requests since this was asked last.
    fn sizes(&self) -> Vec<usize> {
        self.asked.lock().unwrap().drain(..).map(|names| names.len()).collect()
    }

    fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl<F: Fn(&[String]) -> Reply + Send + Sync> Transport for Service<F> {
    fn carry(&self, request: &Request<'_>, _: Duration) -> Result<Answer, Failure> {
        let nodes: Vec<NodeConfig> = serde_json::from_slice(request.body.unwrap()).unwrap();
        let names: Vec<String> = nodes.into_iter().map(|node| node.node_name).collect();
        assert!(names.is_sorted(), "{names:?}");
        let reply = (self.answer)(&names);
        self.asked.lock().unwrap().push(names);
        let (status, body) = reply?;
        Ok(Answer::new(status, Default::default(), body.into_bytes()))
    }
}

fn ok() -> Reply {
    status(200)
}

fn status(status: u16) -> Reply {
    Ok((status, String::new()))
}

/// Viola by one endpoint.
struct Endpoint {
    viola: Viola,
    settings: Arc<Settings>,
}

impl Endpoint {
    fn of(config: &Config, clients: &Clients) -> Endpoint {
        Endpoint { viola: Viola::new(config, clients), settings: Arc::clone(&config.settings) }
    }

    fn deliver(
        &self,
        target: &str,
        objects: &[Vec<&NodeConfig>],
        may_act: &dyn Fn() -> bool,
    ) -> Delivery {
        self.viola.deliver(&self.settings, target, objects, may_act)
    }

    fn unconfirmed(&self, target: &str) -> BTreeSet<String> {
        self.viola.unconfirmed(&self.settings, target)
    }
}

fn over(service: &Arc<impl Transport + 'static>) -> Endpoint {
    client("http://viola.test", Clients::new(&Arc::default()).over(Arc::clone(service) as _))
}

fn client(endpoint: &str, clients: Clients) -> Endpoint {
    let config = Config::read(|name| match name {
        "VIOLA_ENDPOINT" => Some(endpoint.to_owned()),
        "KUBE_API_URL" => Some("http://kubernetes.test".to_owned()),
        _ => None,
    });
    Endpoint::of(&config.unwrap(), &clients)
}

/// Delivers the nodes of one object.
fn deliver(viola: &Endpoint, nodes: &[NodeConfig]) -> Delivery {
    viola.deliver("biz", &[nodes.iter().collect()], &|| true)
}

/// Delivers the nodes of several objects.
fn deliver_all(viola: &Endpoint, objects: &[Vec<NodeConfig>]) -> Delivery {
    let objects: Vec<Vec<&NodeConfig>> = objects.iter().map(|one| one.iter().collect()).collect();
    viola.deliver("biz", &objects, &|| true)
}

fn refused(delivery: &Delivery) -> BTreeSet<&str> {
    delivery.problems.iter().flat_map(|problem| &problem.nodes).map(String::as_str).collect()
}

/// The message about a node, or that it was accepted.
fn said<'a>(delivery: &'a Delivery, node: &str) -> &'a str {
    let problem = delivery.problems.iter().find(|p| p.nodes.iter().any(|one| one == node));
    match problem {
        Some(problem) => &problem.message,
        None if delivery.accepted.contains(node) => "accepted",
        None => "nothing",
    }
}

/// Refuses whatever has one of these nodes in it, as a whole.
fn strict(status: u16, bad: &[&str]) -> impl Fn(&[String]) -> Reply + use<> {
    let bad = names(bad);
    move |names: &[String]| match names.iter().position(|name| bad.contains(name)) {
        Some(at) => Ok((status, format!(r#"{{"error":"[{at}].nodeName is no DNS name"}}"#))),
        None => ok(),
    }
}

#[test]
fn a_node_is_unconfirmed_from_a_post_that_was_not_seen_accepted_to_the_next_that_was() {
    let replies = Mutex::new(Vec::new());
    let replies = Arc::new(replies);
    let next = Arc::clone(&replies);
    let service = Service::new(move |_: &[String]| next.lock().unwrap().remove(0));
    let viola = over(&service);
    let worker = [node("worker-0")];
    for (reply, unconfirmed) in [
        (ok(), false),
        (Err(Failure::Lost), true),
        (status(204), false),
        (status(500), true),
        (ok(), false),
        (Ok((200, r#"{"success":false}"#.to_owned())), true),
        (status(202), false),
        (Err(Failure::Reset), true),
        (status(201), false),
    ] {
        let text = format!("{reply:?}");
        replies.lock().unwrap().push(reply);
        deliver(&viola, &worker);
        assert_eq!(viola.unconfirmed("biz").contains("worker-0"), unconfirmed, "after {text}");
        assert!(viola.unconfirmed("other").is_empty());
    }
}

#[test]
fn after_an_answer_the_next_request_follows_and_after_none_nothing_does() {
    let nodes = nodes(1201);
    for (reply, requests, accepted) in
        [(ok(), 3, 1201), (status(500), 3, 0), (Err(Failure::Lost), 1, 0)]
    {
        let text = format!("{reply:?}");
        let service = Service::new(move |_: &[String]| reply.clone());
        let delivery = deliver(&over(&service), &nodes);
        assert_eq!(service.requests(), requests, "{text}");
        assert_eq!(delivery.accepted.len(), accepted, "{text}");
        assert_eq!(refused(&delivery).len(), 1201 - accepted, "{text}");
    }
}

#[test]
fn a_node_that_was_not_tried_says_why() {
    let lost = Failure::Timeout { waiting_for: "the answer" };
    let service = Service::new(move |_: &[String]| Err(lost.clone()));
    let delivery = deliver(&over(&service), &nodes(501));
    let what = format!("Viola POST {PATH}: timed out while waiting for the answer");
    assert_eq!(said(&delivery, "worker-00000"), what);
    let not_tried = format!("not sent, an earlier request had no answer: {what}");
    assert_eq!(said(&delivery, "worker-00500"), not_tried);
}

#[test]
fn a_refusal_under_a_name_that_was_not_sent_may_be_for_any_node() {
    let answer = r#"{"errors":[{"nodeName":"WORKER-0","error":"no such node"},
                               {"nodeName":"worker-1","error":"not ready"}]}"#;
    let service = Service::new(|_: &[String]| Ok((200, answer.to_owned())));
    let viola = over(&service);
    let delivery = deliver(&viola, &["worker-0", "worker-1", "worker-2"].map(node));
    assert!(delivery.accepted.is_empty());
    let message = |what: &str| format!("Viola POST {PATH}: {what}");
    let any = message(r#"refused a node that wasn't sent: "WORKER-0": no such node"#);
    assert_eq!(said(&delivery, "worker-0"), any);
    assert_eq!(said(&delivery, "worker-1"), message("refused: not ready"));
    assert_eq!(said(&delivery, "worker-2"), any);
    assert_eq!(viola.unconfirmed("biz").len(), 3);
}

#[test]
fn a_node_that_is_not_valid_is_refused_alone_and_holds_no_other_up() {
    for status in [400, 413, 414, 422, 431] {
        let service = Service::new(strict(status, &["Wörker 2"]));
        let viola = over(&service);
        let delivery = deliver(&viola, &["worker-1", "Wörker 2", "worker-3"].map(node));
        assert_eq!(delivery.accepted, names(&["worker-1", "worker-3"]), "{status}");
        let message = format!("Viola POST {PATH}: HTTP {status}: [0].nodeName is no DNS name");
        assert_eq!(said(&delivery, "Wörker 2"), message);
        assert_eq!(viola.unconfirmed("biz"), names(&["Wörker 2"]));
        assert!(service.requests() <= 5);
    }
}

#[test]
fn one_of_five_hundred_is_found_wherever_it_is_and_few_requests_are_spent() {
    let nodes = nodes(500);
    for status in [400, 413] {
        for bad in [0, 1, 249, 250, 333, 499] {
            let bad = format!("worker-{bad:05}");
            let service = Service::new(strict(status, &[&bad]));
            let viola = over(&service);
            let delivery = deliver(&viola, &nodes);
            assert_eq!(refused(&delivery), BTreeSet::from([bad.as_str()]));
            assert_eq!(delivery.accepted.len(), 499);
            assert!((17..=19).contains(&service.requests()), "{}", service.requests());
            // What is wrong with one node makes no request smaller.
            service.sizes();
            let others: Vec<NodeConfig> =
                nodes.iter().filter(|node| node.node_name != bad).cloned().collect();
            deliver(&viola, &others);
            assert!(service.sizes().len() <= 2, "{status}, {bad}");
        }
    }
}

#[test]
fn where_everything_is_refused_at_most_twenty_requests_more_are_made() {
    let nodes = nodes(1201);
    for (refusal, requests) in [(400, 23), (422, 23), (413, 23), (431, 23), (403, 3), (500, 3)] {
        let service = Service::new(move |_: &[String]| status(refusal));
        let viola = over(&service);
        for round in 0..3 {
            let delivery = deliver(&viola, &nodes);
            let asked = service.sizes().len();
            assert!(asked <= requests, "{refusal}, round {round}: {asked}");
            assert!(delivery.accepted.is_empty());
            assert_eq!(refused(&delivery).len(), 1201, "{refusal}");
            assert_eq!(delivery.problems.len(), 1, "one reason is said once");
        }
    }
    let alone = Service::new(|_: &[String]| status(400));
    deliver(&over(&alone), &nodes[..1]);
    assert_eq!(alone.requests(), 1, "what is refused alone is found already");
}

#[test]
fn while_the_invalid_node_is_looked_for_no_request_follows_one_without_an_answer() {
    let service = Service::new(|names: &[String]| match names.len() {
        4 => status(400),
        _ => Err(Failure::Lost),
    });
    let four = nodes(4);
    let delivery = deliver(&over(&service), &four);
    assert_eq!((service.requests(), refused(&delivery).len()), (2, 4));
    let leader = Service::new(|_: &[String]| status(400));
    let may_act = || leader.requests() == 0;
    let delivery = over(&leader).deliver("biz", &[four.iter().collect()], &may_act);
    assert_eq!((leader.requests(), refused(&delivery).len()), (1, 4));
}

#[test]
fn a_replica_that_may_no_longer_act_sends_no_further_request() {
    let nodes = nodes(1201);
    for before_end in [0, 1, 2] {
        let service = Service::new(|_: &[String]| ok());
        let may_act = || service.requests() < before_end;
        let delivery = over(&service).deliver("biz", &[nodes.iter().collect()], &may_act);
        assert_eq!(service.requests(), before_end);
        assert_eq!(delivery.accepted.len(), 500 * before_end);
        let [problem] = delivery.problems.as_slice() else { panic!("{delivery:?}") };
        assert_eq!(problem.message, "not sent, this replica may no longer act");
        assert_eq!(problem.nodes.len(), 1201 - 500 * before_end);
    }
}

#[test]
fn nodes_of_several_objects_share_requests_in_the_order_of_their_names() {
    let service = Service::new(|_: &[String]| ok());
    let objects = [["d", "b"].map(node).to_vec(), Vec::new(), ["c", "a"].map(node).to_vec()];
    let delivery = deliver_all(&over(&service), &objects);
    assert_eq!(*service.asked.lock().unwrap(), [["a", "b", "c", "d"]]);
    assert_eq!(delivery.accepted, names(&["a", "b", "c", "d"]));
}

#[test]
fn all_of_three_hundred_nodes_get_through_an_ingress_that_takes_a_hundred() {
    for refusal in [status(413), status(414), status(431)] {
        let text = format!("{refusal:?}");
        let service = Service::new(move |names: &[String]| match names.len() {
            0..=100 => ok(),
            _ => refusal.clone(),
        });
        let viola = over(&service);
        let nodes = nodes(300);
        let delivery = deliver(&viola, &nodes);
        assert_eq!(delivery.accepted.len(), 300, "{text}: {:?}", delivery.problems);
        assert_eq!(service.sizes(), [300, 150, 75, 75, 150, 75, 75], "{text}");
        // It is remembered; after a delivery without trouble more is tried.
        deliver(&viola, &nodes);
        assert_eq!(service.sizes(), [75, 75, 75, 75], "{text}");
        deliver(&viola, &nodes);
        assert_eq!(service.sizes(), [150, 75, 75, 75, 75], "{text}");
        // Another cluster is another matter.
        viola.deliver("other", &[nodes.iter().collect()], &|| true);
        assert_eq!(service.sizes()[0], 300, "{text}");
    }
}

#[test]
fn an_ingress_that_resets_what_is_too_large_is_sent_less() {
    let service = Service::new(|names: &[String]| match names.len() {
        0..=100 => ok(),
        _ => Err(Failure::Reset),
    });
    let viola = over(&service);
    for largest in [300, 100] {
        let delivery = deliver(&viola, &nodes(300));
        assert_eq!(delivery.accepted.len(), 300);
        assert!(service.sizes().into_iter().all(|size| size <= largest));
    }
}

/// Gives these replies, and then successes.
fn replying(replies: Vec<Reply>) -> Arc<Service<impl Fn(&[String]) -> Reply + Send + Sync>> {
    let replies = Mutex::new(replies.into_iter());
    Service::new(move |_: &[String]| replies.lock().unwrap().next().unwrap_or(ok()))
}

#[test]
fn what_is_lost_once_makes_no_small_request_smaller() {
    let lost = || Err(Failure::Lost);
    for replies in [vec![lost()], vec![Err(Failure::Reset)], vec![lost(), ok(), lost()]] {
        let passes = replies.len();
        let service = replying(replies);
        let viola = over(&service);
        for _ in 0..passes {
            deliver(&viola, &nodes(3));
        }
        service.sizes();
        deliver(&viola, &nodes(3));
        assert_eq!(service.sizes(), [3], "{passes}");
    }
}

#[test]
fn what_is_lost_again_is_sent_in_halves() {
    let service = replying(vec![Err(Failure::Lost), Err(Failure::Lost)]);
    let viola = over(&service);
    (0..3).for_each(|_| drop(deliver(&viola, &nodes(60))));
    assert_eq!(service.sizes(), [60, 60, 30, 30]);
}

#[test]
fn a_single_node_that_is_refused_is_not_put_together_with_others() {
    let service = Service::new(strict(500, &["bad"]));
    let viola = over(&service);
    let objects = [vec![node("bad")], vec![node("good")]];
    deliver_all(&viola, &objects[..1]);
    assert_eq!(deliver_all(&viola, &objects).accepted, names(&["good"]));
}

#[test]
fn objects_are_sent_by_themselves_until_all_was_accepted() {
    let refusal = r#"{"errors":[{"nodeName":"a"}]}"#;
    let service = replying(vec![status(500), Ok((200, refusal.to_owned()))]);
    let viola = over(&service);
    let objects = ["a", "b"].map(|name| vec![node(name)]);
    for sizes in [&[2][..], &[1, 1], &[1, 1], &[2]] {
        deliver_all(&viola, &objects);
        assert_eq!(service.sizes(), sizes);
    }
}

#[test]
fn results_that_name_some_nodes_speak_for_those_alone() {
    let answer = r#"{"applied":1,"results":[{"nodeName":"a","status":"applied"}]}"#;
    let service = replying(vec![Ok((200, answer.to_owned()))]);
    let delivery = deliver(&over(&service), &["a", "b"].map(node));
    assert_eq!(delivery.accepted, names(&["a"]));
    let message = format!("Viola POST {PATH}: not all nodes were applied");
    assert_eq!(said(&delivery, "b"), message);
}

#[test]
fn a_viola_that_is_not_reached_makes_no_request_smaller_and_isolates_no_object() {
    for failure in [Failure::Refused, Failure::HostNotFound, Failure::Tls("expired".to_owned())] {
        let is_there = Arc::new(Mutex::new(false));
        let now = Arc::clone(&is_there);
        let service = Service::new(move |_: &[String]| match *now.lock().unwrap() {
            true => ok(),
            false => Err(failure.clone()),
        });
        let viola = over(&service);
        let objects: Vec<Vec<NodeConfig>> = nodes(1000).chunks(5).map(<[_]>::to_vec).collect();
        deliver_all(&viola, &objects);
        assert_eq!(service.sizes(), [500]);
        *is_there.lock().unwrap() = true;
        deliver_all(&viola, &objects);
        assert_eq!(service.sizes(), [500, 500]);
    }
}

#[test]
fn more_nodes_than_one_request_may_have_get_through_as_well() {
    for most in [100, 10] {
        let service = Service::new(move |names: &[String]| match names.len() {
            size if size <= most => ok(),
            _ => status(413),
        });
        let viola = over(&service);
        let nodes = nodes(1201);
        let mut left: Vec<NodeConfig> = nodes.clone();
        for pass in 1.. {
            let delivery = deliver(&viola, &left);
            left.retain(|node| !delivery.accepted.contains(&node.node_name));
            if left.is_empty() {
                break;
            }
            assert!(pass < 4, "{most}: {} are left", left.len());
        }
    }
}

#[test]
fn a_limit_grows_again_with_success() {
    let most = Arc::new(Mutex::new(10));
    let now = Arc::clone(&most);
    let service = Service::new(move |names: &[String]| match names.len() {
        size if size <= *now.lock().unwrap() => ok(),
        _ => status(413),
    });
    let viola = over(&service);
    deliver(&viola, &nodes(20));
    *most.lock().unwrap() = MAX_NODES;
    service.sizes();
    for limit in [10, 20, 40, 80, 160, 320, 500, 500] {
        let delivery = deliver(&viola, &nodes(1000));
        assert_eq!(delivery.accepted.len(), 1000);
        assert_eq!(service.sizes()[0], limit);
    }
}

#[test]
fn a_slow_viola_is_sent_less_at_a_time_until_it_answers_in_time() {
    let service = Service::new(|names: &[String]| match names.len() {
        0..=60 => ok(),
        _ => Err(Failure::Timeout { waiting_for: "the answer" }),
    });
    let viola = over(&service);
    let mut left = nodes(500);
    for pass in 1.. {
        let delivery = deliver(&viola, &left);
        left.retain(|node| !delivery.accepted.contains(&node.node_name));
        let sizes = service.sizes();
        assert!(sizes.iter().rev().skip(1).all(|size| *size <= 60), "after it nothing is tried");
        if left.is_empty() {
            break;
        }
        assert!(pass < 5, "{} are left", left.len());
    }
}

/// Fifty objects of three nodes.
fn fifty() -> Vec<Vec<NodeConfig>> {
    let object = |number: usize| (0..3).map(|n| node(&format!("node-{number:02}-{n}"))).collect();
    (0..50).map(object).collect()
}

#[test]
fn a_node_that_viola_answers_with_500_does_not_hold_up_the_other_objects_for_long() {
    let bodies = [
        (500, String::new()),
        (503, "<html>".to_owned()),
        (200, r#"{"success":false}"#.to_owned()),
        (200, r#"{"errors":[{"error":"no"}]}"#.to_owned()),
    ];
    for answer in bodies {
        let text = format!("{answer:?}");
        let service = Service::new(move |names: &[String]| {
            if names.iter().any(|name| name == "node-17-1") { Ok(answer.clone()) } else { ok() }
        });
        let viola = over(&service);
        let objects = fifty();
        let delivery = deliver_all(&viola, &objects);
        assert!(delivery.accepted.is_empty(), "{text}");
        assert_eq!(service.sizes(), [150], "{text}");
        let delivery = deliver_all(&viola, &objects);
        assert_eq!(delivery.accepted.len(), 49 * 3, "{text}");
        let own = objects[17].iter().map(|node| node.node_name.as_str()).collect();
        assert_eq!(refused(&delivery), own, "{text}");
        assert_eq!(service.sizes(), [3; 50], "{text}");
        // As long as it fails alone, the others aren't put at risk again.
        deliver_all(&viola, &objects[17..18]);
        deliver_all(&viola, &objects);
        assert_eq!(service.sizes().len(), 51, "{text}");
        // Once all was accepted they share requests again.
        let good = &objects[..10];
        deliver_all(&viola, good);
        deliver_all(&viola, good);
        let sizes = service.sizes();
        assert_eq!((sizes.len(), sizes[10]), (11, 30), "{text}");
    }
}

#[test]
fn a_node_that_viola_refuses_by_name_leaves_requests_shared() {
    let answer = r#"{"applied":149,"errors":[{"nodeName":"node-17-1","error":"not ready"}]}"#;
    let service = Service::new(|_: &[String]| Ok((200, answer.to_owned())));
    let viola = over(&service);
    for _ in 0..2 {
        let delivery = deliver_all(&viola, &fifty());
        assert_eq!(delivery.accepted.len(), 149);
        let message = format!("Viola POST {PATH}: refused: not ready");
        assert_eq!(said(&delivery, "node-17-1"), message);
        assert_eq!(service.sizes(), [150]);
    }
}

#[test]
fn a_node_that_viola_never_answers_for_does_not_hold_up_the_other_objects() {
    let service = Service::new(|names: &[String]| {
        let hangs = |name: &String| name == "node-00-1" || name == "node-01-1";
        if names.iter().any(hangs) { Err(Failure::Lost) } else { ok() }
    });
    let viola = over(&service);
    let objects = fifty();
    let accepted = |delivery: &Delivery| delivery.accepted.len();
    assert_eq!(accepted(&deliver_all(&viola, &objects)), 0);
    // All were in a request without an answer: the first object's hangs, and is last from then on.
    assert_eq!(accepted(&deliver_all(&viola, &objects)), 0);
    assert_eq!(accepted(&deliver_all(&viola, &objects)), 0);
    for _ in 0..3 {
        assert!(accepted(&deliver_all(&viola, &objects)) >= 48 * 3);
    }
    // The two that hang take turns in being tried at all.
    service.sizes();
    let last = || {
        deliver_all(&viola, &objects[..2]);
        service.asked.lock().unwrap().pop().unwrap()[0].clone()
    };
    assert_ne!(last(), last());
}

#[test]
fn a_refusal_of_several_objects_quotes_nothing_that_may_be_about_another_one() {
    let service = Service::new(strict(500, &["node-17-1"]));
    let viola = over(&service);
    let objects = fifty();
    let delivery = deliver_all(&viola, &objects);
    let what = format!("Viola POST {PATH}: HTTP 500");
    let message =
        format!("{what}: the request had nodes of several objects; each is sent by itself next");
    assert_eq!(said(&delivery, "node-00-0"), message);
    assert_eq!(said(&delivery, "node-17-1"), message);
    let delivery = deliver_all(&viola, &objects);
    let message = format!("{what}: [1].nodeName is no DNS name");
    assert_eq!(said(&delivery, "node-17-0"), message);
}

#[test]
fn each_object_finds_its_own_invalid_node_when_there_are_many() {
    let bad: Vec<String> = (0..50).map(|number| format!("node-{number:02}-2")).collect();
    let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
    let service = Service::new(strict(400, &bad));
    let viola = over(&service);
    deliver_all(&viola, &fifty());
    let delivery = deliver_all(&viola, &fifty());
    assert_eq!(refused(&delivery), bad.iter().copied().collect());
    assert_eq!(delivery.accepted.len(), 100);
}

#[test]
fn a_service_may_ask_not_to_be_called() {
    struct Busy(u16);
    impl Transport for Busy {
        fn carry(&self, _: &Request<'_>, _: Duration) -> Result<Answer, Failure> {
            let mut headers = ureq::http::HeaderMap::new();
            headers.insert("retry-after", "17".parse().unwrap());
            Ok(Answer::new(self.0, headers, Vec::new()))
        }
    }
    for (status, expected) in [(429, Some(17)), (503, Some(17)), (500, None), (200, None)] {
        let delivery = deliver(&over(&Arc::new(Busy(status))), &nodes(2));
        assert_eq!(delivery.retry_after, expected.map(Duration::from_secs), "{status}");
    }
}

#[test]
fn a_redirect_is_no_acceptance_and_is_said_to_be_one() {
    let service = Service::new(|_: &[String]| status(307));
    let delivery = deliver(&over(&service), &nodes(1));
    let message = format!("Viola POST {PATH}: HTTP 307 (redirects aren't followed; check the URL)");
    assert_eq!(said(&delivery, "worker-00000"), message);
}

#[test]
fn without_an_endpoint_nothing_is_sent() {
    let config =
        Config::read(|name| (name == "KUBE_API_URL").then(|| "http://kubernetes.test".to_owned()));
    let viola = Endpoint::of(&config.unwrap(), &Clients::new(&Arc::default()));
    let delivery = deliver(&viola, &nodes(2));
    assert_eq!(said(&delivery, "worker-00001"), "VIOLA_ENDPOINT is not set");
    assert!(delivery.accepted.is_empty());
}

#[test]
fn a_connection_that_is_reset_while_the_body_is_sent_halves_the_request() {
    // Resets each connection whose request announces more than this, without reading its body.
    let most = 20_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = crate::threads::spawn("server", move || {
        let mut resets = 0;
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            if head.is_empty() {
                return resets;
            }
            let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            let length: usize = length.parse().unwrap();
            if length > most {
                resets += 1;
                let socket = socket2::Socket::from(connection);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
                continue;
            }
            let mut body = vec![0; length];
            connection.read_exact(&mut body).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            connection.write_all(answer).unwrap();
        }
        resets
    })
    .unwrap();
    let viola = client(&format!("http://{address}"), Clients::new(&Arc::default()));
    let nodes = nodes(1000);
    let delivery = deliver(&viola, &nodes);
    assert_eq!(delivery.accepted.len(), 1000, "{:?}", delivery.problems);
    // A connection without a request ends the server.
    drop(std::net::TcpStream::connect(address).unwrap());
    assert!(server.join().unwrap() >= 1);
}

#[test]
fn a_request_has_at_most_500_nodes_and_1_mib() {
    let service = Service::new(|_: &[String]| ok());
    deliver(&over(&service), &nodes(1201));
    assert_eq!(service.sizes(), [500, 500, 201]);

    let long: Vec<NodeConfig> =
        (0..5).map(|number| node(&format!("{number}{}", "x".repeat(400_000)))).collect();
    deliver(&over(&service), &long);
    assert_eq!(service.sizes(), [2, 2, 1]);
    let shown = bodies(&long.iter().collect::<Vec<_>>());
    assert_eq!(shown.len(), 3, "what plan shows is what is sent");
    assert!(shown.iter().all(|body| body.len() <= MAX_BYTES));
}

#[test]
fn a_body_is_filled_to_the_last_byte_and_not_beyond() {
    let base = serde_json::to_vec(&node("")).unwrap().len();
    let first = node(&"x".repeat(500_000));
    // Brackets and a comma are three bytes.
    let left = MAX_BYTES - 500_000 - 2 * base - 3;
    let sizes =
        |second: &NodeConfig| bodies(&[&first, second]).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(&node(&"y".repeat(left))), [MAX_BYTES]);
    assert_eq!(sizes(&node(&"y".repeat(left + 1))).len(), 2);
}
