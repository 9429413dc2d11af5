//! The way to the API server: a client that never waits for ever, and knows when each watch was last heard from.
//!
//! In: a configuration of the cluster's. Out: a [`Client`]. A request without an answer, an answer that stops half-way and
//! a server that has vanished become errors, which their callers log and try again: kube's own client has no such bounds.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tokio::time::{Instant, timeout};
use tower::{BoxError, Layer, Service, ServiceBuilder};
use weft_api::control::Problem;
use weft_intent::Kind;

use super::KINDS;
use super::scope::Scope;

/// To reach a server, which is a few hops away or gone.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// To begin an answer. Servers queue requests when they are busy; the pages that we ask for are small.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Between two parts of an answer. A watch ends after 290 s where nobody says otherwise, and may be silent until then.
const SILENCE: Duration = Duration::from_secs(310);
/// A connection that nothing comes from is asked whether its other end lives,
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// this often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// and given up after so many questions.
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent and is not acknowledged for so long ends a connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// A watch that says nothing for so long is a problem: it is bookmarked about once a minute, and renewed within five.
const STALE_AFTER: Duration = Duration::from_secs(360);

/// When each watch was last heard from: an event, a bookmark, a part of a list.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<BTreeMap<Scope, Instant>>>);

impl Heard {
    /// All kinds, as if heard from just now.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(KINDS.map(|kind| (kind.into(), Instant::now())).into())))
    }

    /// How long nothing was said of each kind; of one with several watches, by the one that is silent for longest.
    pub fn ages(&self, now: Instant) -> BTreeMap<Kind, Duration> {
        let mut ages: BTreeMap<_, Duration> = BTreeMap::new();
        for (scope, at) in self.lock().iter() {
            let age = ages.entry(scope.kind()).or_default();
            *age = now.saturating_duration_since(*at).max(*age);
        }
        ages
    }

    pub fn problems(&self, now: Instant) -> Vec<Problem> {
        let heard = self.lock();
        let stale = heard.iter().filter(|(_, at)| now.saturating_duration_since(**at) > STALE_AFTER);
        let problem = |scope: &Scope| Problem {
            object: format!("watch of {scope}"),
            reason: format!("nothing heard from the API server for more than {} s", STALE_AFTER.as_secs()),
        };
        stale.map(|(scope, _)| problem(scope)).collect()
    }

    /// There is one more watch, as if heard from just now.
    pub(super) fn expect(&self, scope: Scope) {
        self.lock().insert(scope, Instant::now());
    }

    /// The watch has ended.
    pub(super) fn forget(&self, scope: &Scope) {
        self.lock().remove(scope);
    }

    fn now(&self, scope: Option<&Scope>) {
        let mut heard = self.lock();
        if let Some(at) = scope.and_then(|scope| heard.get_mut(scope)) {
            *at = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Scope, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of the cluster that `config` names.
pub fn client(config: &Config, heard: Heard) -> kube::Result<Client> {
    connect(config, Patience { heard, connect: CONNECT_WITHIN, answer: ANSWER_WITHIN, silence: SILENCE })
}

fn connect(config: &Config, patience: Patience) -> kube::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(patience.connect));
    connector.set_keepalive(Some(KEEPALIVE_AFTER));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(patience)
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// Bounds the time that a request may take, and notes what is heard.
#[derive(Clone, Debug)]
struct Patience {
    heard: Heard,
    /// See [`CONNECT_WITHIN`].
    connect: Duration,
    /// See [`ANSWER_WITHIN`].
    answer: Duration,
    /// See [`SILENCE`].
    silence: Duration,
}

#[derive(Clone, Debug)]
struct Patient<S> {
    inner: S,
    patience: Patience,
}

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Patient<S> {
        Patient { inner, patience: self.clone() }
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;
type Parts = Pin<Box<dyn stream::Stream<Item = Result<Frame<Bytes>, BoxError>> + Send>>;

impl<S, B> Service<Request<Body>> for Patient<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<StreamBody<Parts>>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let scope = (request.method() == Method::GET).then(|| Scope::of(request.uri())).flatten();
        let patience = self.patience.clone();
        let answer = timeout(patience.answer, self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await.map_err(|_| silent(patience.answer))?.map_err(Into::into)?;
            Ok(answer.map(|body| StreamBody::new(parts(body, scope, patience))))
        })
    }
}

/// Of an answer, until its end, an error, or a silence.
fn parts<B>(body: B, scope: Option<Scope>, patience: Patience) -> Parts
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    Box::pin(stream::unfold(Some((body, scope, patience)), move |state| async move {
        let (mut body, scope, patience) = state?;
        match timeout(patience.silence, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                patience.heard.now(scope.as_ref());
                Some((Ok(frame), Some((body, scope, patience))))
            }
            Ok(Some(Err(error))) => Some((Err(error.into()), None)),
            Ok(None) => None,
            Err(_) => Some((Err(silent(patience.silence)), None)),
        }
    }))
}

fn silent(within: Duration) -> BoxError {
    format!("the API server said nothing for {within:?}").into()
}

#[cfg(test)]
mod tests;
