//! A real RabbitMQ of a test's own, from Debian's package: on loopback, in a temporary folder, gone with
//! the test. And a client that does there what OpenStack does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::skip::skipped;

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Starting takes 4 s of processor time.
const START_LIMIT: Duration = Duration::from_secs(90);

/// The user of the tests, who may do what the guide grants, and the password.
pub(crate) const USER: (&str, &str) = ("operator", "rabbit-0pen5tack");
/// What OpenStack's services log in with.
const PUBLISHER: (&str, &str) = ("openstack", "publisher-5ecret");

/// Virtual hosts, users and rights, read at each start.
const DEFINITIONS: &str = r#"{
  "vhosts": [{"name": "/"}, {"name": "nova"}],
  "users": [
    {"name": "openstack", "password": "publisher-5ecret", "tags": "administrator"},
    {"name": "operator", "password": "rabbit-0pen5tack", "tags": ""},
    {"name": "neutron-only", "password": "rabbit-0pen5tack", "tags": ""},
    {"name": "no-queue", "password": "rabbit-0pen5tack", "tags": ""}
  ],
  "permissions": [
    {"user": "openstack", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
    {"user": "operator", "vhost": "/", "configure": "^amq\\.gen-", "write": "^amq\\.gen-",
     "read": "^(amq\\.gen-.*|neutron|nova)$"},
    {"user": "neutron-only", "vhost": "/", "configure": "^amq\\.gen-", "write": "^amq\\.gen-",
     "read": "^(amq\\.gen-.*|neutron)$"},
    {"user": "no-queue", "vhost": "/", "configure": "^$", "write": "^$", "read": ".*"}
  ]
}"#;

/// A broker; killed when dropped.
pub(crate) struct RabbitMq {
    folder: tempfile::TempDir,
    port: u16,
    tls_port: Option<u16>,
    names: u16,
    distribution: u16,
    node: Option<Child>,
    epmd: Child,
}

impl RabbitMq {
    /// Starts one, if RabbitMQ is installed; otherwise the test is noted as skipped.
    pub(crate) fn start() -> Option<RabbitMq> {
        RabbitMq::start_with("", None)
    }

    /// The same with further lines of configuration, and with TLS by these PEM texts: certificate and key.
    pub(crate) fn start_with(configuration: &str, tls: Option<(&str, &str)>) -> Option<RabbitMq> {
        if !Path::new(SERVER).exists() {
            let is_required = std::env::var_os("RABBITMQ").is_some_and(|it| it == "required");
            assert!(!is_required, "{SERVER} isn't there");
            skipped("RabbitMQ isn't installed (Debian: rabbitmq-server)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let [port, tls_port, names, distribution] = free_ports();
        let path = folder.path().display();
        let mut text = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nload_definitions = {path}/definitions.json\n\
             loopback_users = none\n{configuration}\n"
        );
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        if let Some((certificate, key)) = tls {
            write("certificate.pem", certificate);
            write("key.pem", key);
            text += &format!(
                "listeners.ssl.1 = 127.0.0.1:{tls_port}\nssl_options.verify = verify_none\n\
                 ssl_options.certfile = {path}/certificate.pem\nssl_options.keyfile = {path}/key.pem\n"
            );
        }
        write("rabbitmq.conf", &text);
        write("definitions.json", DEFINITIONS);
        write("plugins", "[].");
        let epmd = Command::new("epmd")
            .args(["-port", &names.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tls_port = tls.map(|_| tls_port);
        let mut broker = RabbitMq { folder, port, tls_port, names, distribution, node: None, epmd };
        // The node would start a daemon for names itself, and leave it behind.
        wait_for("epmd", || TcpStream::connect(("127.0.0.1", names)).is_ok());
        broker.start_again();
        Some(broker)
    }

    /// Starts the node where it was, once it was killed.
    pub(crate) fn start_again(&mut self) {
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join("output")).unwrap();
        let mut command = Command::new(SERVER);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", folder)
            // In the foreground, as this very process.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", format!("test-{}@localhost", self.port))
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("ERL_EPMD_PORT", self.names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
            );
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.node = Some(command.spawn().unwrap());
        let port = self.port;
        wait_for("RabbitMQ", || Publisher::connect(port).is_some());
    }

    /// Where it listens without TLS.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it listens with TLS.
    pub(crate) fn tls_address(&self) -> String {
        format!("127.0.0.1:{}", self.tls_port.unwrap())
    }

    /// Someone who may declare and publish.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::connect(self.port).unwrap()
    }

    /// Kills the node as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }

    /// Sends the node a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.node.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for a line of the broker's log that holds all of these.
    pub(crate) fn log_line_with(&self, texts: &[&str]) {
        let file = format!("log/test-{}@localhost.log", self.port);
        let path = self.folder.path().join(file);
        wait_for("a line of the log", || {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            log.lines().any(|line| texts.iter().all(|text| line.contains(text)))
        });
    }

    /// Runs `rabbitmqctl`, which takes seconds.
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        let output = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("ERL_EPMD_PORT", self.names.to_string())
            .args(["--node", &format!("test-{}@localhost", self.port)])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.kill();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
    }
}

fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let listeners = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_there() {
        assert!(started.elapsed() < START_LIMIT, "{what} isn't there in time");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A connection like those of OpenStack's services, with one channel.
pub(crate) struct Publisher(TcpStream);

impl Publisher {
    fn connect(port: u16) -> Option<Publisher> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(START_LIMIT)).unwrap();
        let mut publisher = Publisher(stream);
        publisher.0.write_all(b"AMQP\0\0\x09\x01").ok()?;
        publisher.answer(0, (10, 10))?;
        let (user, password) = PUBLISHER;
        let response = format!("\0{user}\0{password}");
        let login = [&[0, 0, 0, 0], &short("PLAIN")[..], &long(response.as_bytes()), &short("C")];
        publisher.method(0, (10, 11), &login.concat());
        publisher.answer(0, (10, 30))?;
        publisher.method(0, (10, 31), &[0, 1, 0, 2, 0, 0, 0, 0]);
        publisher.method(0, (10, 40), &[short("/"), vec![0, 0]].concat());
        publisher.answer(0, (10, 41))?;
        publisher.method(1, (20, 10), &[0]);
        publisher.answer(1, (20, 11))?;
        Some(publisher)
    }

    /// Declares a topic exchange as OpenStack does, durable or not.
    pub(crate) fn declare(&mut self, exchange: &str, is_durable: bool) {
        let flags = u8::from(is_durable) << 1;
        let arguments = [vec![0, 0], short(exchange), short("topic"), vec![flags, 0, 0, 0, 0]];
        self.method(1, (40, 10), &arguments.concat());
        self.answer(1, (40, 11)).unwrap();
    }

    /// Deletes an exchange, and with it all bindings.
    pub(crate) fn delete(&mut self, exchange: &str) {
        self.method(1, (40, 20), &[vec![0, 0], short(exchange), vec![0]].concat());
        self.answer(1, (40, 21)).unwrap();
    }

    /// Publishes a body, whatever it is.
    pub(crate) fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) {
        self.method(1, (60, 40), &[vec![0, 0], short(exchange), short(key), vec![0]].concat());
        let header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), &[0, 0]];
        self.frame(2, 1, &header.concat());
        for part in body.chunks(100_000) {
            self.frame(3, 1, part);
        }
    }

    fn method(&mut self, channel: u8, (class, method): (u8, u8), arguments: &[u8]) {
        self.frame(1, channel, &[&[0, class, 0, method][..], arguments].concat());
    }

    fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        self.0.write_all(&[&[kind, 0, channel], &long(payload)[..], &[0xCE]].concat()).unwrap();
    }

    /// Reads up to this answer; none if the broker gives up instead.
    fn answer(&mut self, channel: u8, (class, method): (u8, u8)) -> Option<()> {
        loop {
            let mut head = [0; 7];
            self.0.read_exact(&mut head).ok()?;
            let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
            let mut payload = vec![0; length as usize + 1];
            self.0.read_exact(&mut payload).ok()?;
            if head[..3] == [1, 0, channel] && payload[..4] == [0, class, 0, method] {
                return Some(());
            }
        }
    }
}

fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}
