//! The running cloud: all services of a scenario, each on its own port.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::contrabass::Contrabass;
use crate::control::Control;
use crate::faults::Faults;
use crate::journal::{Journal, Service};
use crate::kubernetes::Kubernetes;
use crate::notifications::{self, Notification};
use crate::openstack::{Keystone, Neutron, Nova};
use crate::scenario::Scenario;
use crate::state::{CloudState, SharedState};
use crate::viola::Viola;
use crate::wire::{Handler, Server};

/// A service: where it listens, what answers, and the server while it runs.
struct Place {
    address: SocketAddr,
    handler: Arc<dyn Handler>,
    server: Option<Server>,
}

/// All services of a scenario, running. They stop when it is dropped.
pub struct Cloud {
    scenario: Scenario,
    state: Arc<SharedState>,
    journal: Arc<Journal>,
    faults: Arc<Faults>,
    viola: Arc<Viola>,
    kubernetes: Arc<Kubernetes>,
    places: Mutex<BTreeMap<Service, Place>>,
}

impl Cloud {
    /// Starts all services on free ports of the loopback interface.
    pub fn start(scenario: Scenario) -> io::Result<Cloud> {
        Cloud::start_from(scenario, None)
    }

    /// Starts all services; with a base the ports are the base and those above it, in the order of
    /// [`Service::ALL`].
    pub fn start_from(scenario: Scenario, port_base: Option<u16>) -> io::Result<Cloud> {
        let state = Arc::new(SharedState::new(scenario.state.clone()));
        let journal = Arc::new(Journal::new());
        let faults = Arc::new(Faults::new());
        let viola = Viola::new(Arc::clone(&journal));
        let kubernetes = Kubernetes::new();
        kubernetes.load(scenario.objects.clone());
        let control = Control::new(
            Arc::clone(&state),
            Arc::clone(&journal),
            Arc::clone(&faults),
            Arc::clone(&viola),
        );
        let mut places = BTreeMap::new();
        for (service, above) in Service::ALL.into_iter().zip(0..) {
            let handler: Arc<dyn Handler> = match service {
                Service::Contrabass => Contrabass::new(Arc::clone(&state)),
                Service::Keystone => Keystone::new(Arc::clone(&state)),
                Service::Neutron => Neutron::new(Arc::clone(&state)),
                Service::Nova => Nova::new(Arc::clone(&state)),
                Service::Viola => Arc::clone(&viola) as Arc<dyn Handler>,
                Service::Kubernetes => Arc::clone(&kubernetes) as Arc<dyn Handler>,
                Service::Control => Arc::clone(&control) as Arc<dyn Handler>,
            };
            let port = port_base.map_or(0, |base| base.saturating_add(above));
            let server = Server::start_at(
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                service,
                Arc::clone(&handler),
                Arc::clone(&journal),
                Arc::clone(&faults),
            )?;
            let place = Place { address: server.address(), handler, server: Some(server) };
            places.insert(service, place);
        }
        let cloud = Cloud {
            scenario,
            state,
            journal,
            faults,
            viola,
            kubernetes,
            places: Mutex::new(places),
        };
        let urls = [Service::Keystone, Service::Neutron, Service::Nova].map(|s| cloud.url(s));
        let [keystone, neutron, nova] = urls;
        cloud.edit(|state| {
            state.urls.keystone = keystone;
            state.urls.neutron = neutron;
            state.urls.nova = nova;
        });
        Ok(cloud)
    }

    /// `http://` and the address of a service, without a prefix and a slash at the end. Stays the
    /// same while the service is stopped.
    pub fn url(&self, service: Service) -> String {
        self.places()
            .get(&service)
            .map(|place| format!("http://{}", place.address))
            .unwrap_or_default()
    }

    /// Stops a service: nobody listens on its port any more, and its connections end.
    pub fn stop(&self, service: Service) {
        let server = self.places().get_mut(&service).and_then(|place| place.server.take());
        // Dropping stops it; outside the lock, for it waits for requests to end.
        drop(server);
    }

    /// Starts a stopped service again, on its port. What it held it still holds.
    ///
    /// # Errors
    /// When the port has been taken meanwhile.
    pub fn start_again(&self, service: Service) -> io::Result<()> {
        let mut places = self.places();
        if let Some(place) = places.get_mut(&service)
            && place.server.is_none()
        {
            place.server = Some(Server::start_at(
                place.address,
                service,
                Arc::clone(&place.handler),
                Arc::clone(&self.journal),
                Arc::clone(&self.faults),
            )?);
        }
        Ok(())
    }

    /// Changes the cloud; all services see the change at once.
    pub fn edit<T>(&self, change: impl FnOnce(&mut CloudState) -> T) -> T {
        change(&mut self.state.lock())
    }

    /// Changes the cloud, and gives what its services notify of that.
    pub fn notified<T>(&self, change: impl FnOnce(&mut CloudState) -> T) -> Vec<Notification> {
        let mut state = self.state.lock();
        let before = state.clone();
        change(&mut state);
        notifications::between(&before, &state)
    }

    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What was asked of all services.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What goes wrong on purpose.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The API that receives node configurations.
    pub fn viola(&self) -> &Viola {
        &self.viola
    }

    /// The Kubernetes API of the management cluster.
    pub fn kubernetes(&self) -> &Kubernetes {
        &self.kubernetes
    }

    /// The environment variables with which the operator finds this cloud, with those of the
    /// scenario.
    pub fn environment(&self) -> Vec<(String, String)> {
        let (prefix, key) = self.edit(|state| {
            let prefix = state.settings.contrabass_prefix.clone();
            (prefix, state.encryption_key.clone())
        });
        let contrabass = format!("{}{prefix}", self.url(Service::Contrabass));
        let mut environment = BTreeMap::from([
            ("CONTRABASS_ENDPOINT".to_owned(), contrabass),
            ("CONTRABASS_ENCRYPT_KEY".to_owned(), key),
            ("VIOLA_ENDPOINT".to_owned(), self.url(Service::Viola)),
            ("KUBE_API_URL".to_owned(), self.url(Service::Kubernetes)),
        ]);
        for (name, value) in &self.scenario.environment {
            let value = value
                .replace("{neutron}", &self.url(Service::Neutron))
                .replace("{nova}", &self.url(Service::Nova));
            environment.insert(name.clone(), value);
        }
        environment.into_iter().collect()
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<Service, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
