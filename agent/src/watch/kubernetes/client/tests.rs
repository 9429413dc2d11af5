use http_body_util::Full;
use kube::Api;
use kube::api::ListParams;
use tokio::net::TcpListener;
use tower::service_fn;

use super::*;
use crate::supervise::brief;
use crate::testing::{in_netns, ip};
use crate::watch::kubernetes::raw::Raw;

const EVENT: &str = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"7\"}}}\n";

const SHORT: Duration = Duration::from_millis(100);

fn impatient(heard: &Heard) -> Patience {
    Patience { heard: heard.clone(), connect: SHORT, answer: SHORT, silence: SHORT }
}

/// How the answer ends.
async fn get(
    answer: impl HttpBody<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
    heard: &Heard,
) -> BoxError {
    let mut answer = Some(answer);
    let server =
        service_fn(move |_| std::future::ready(Ok::<_, BoxError>(Response::new(answer.take().unwrap()))));
    let request = Request::get("/api/v1/pods?&watch=true").body(Body::empty()).unwrap();
    let mut client = impatient(heard).layer(server);
    let mut body = client.call(request).await.unwrap().into_body();
    loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error,
            None => return "the end".into(),
        }
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    brief(async move {
        let mut held = Vec::new();
        while let Ok(accepted) = listener.accept().await {
            held.push(accepted);
        }
    });
    let client = connect(&Config::new(url.parse().unwrap()), impatient(&Heard::new())).unwrap();
    let api: Api<Raw> = Api::all_with(client, &Kind::Pod);
    let error = api.list(&ListParams::default()).await.unwrap_err();
    assert!(error.to_string().contains("said nothing for 100ms"), "{error}");
}

#[test]
fn a_server_that_is_gone_is_an_error_before_an_answer_could_be() {
    in_netns(|| async {
        // Nobody is at the other end.
        ip("link add up1 type veth peer name other");
        ip("link set other up");
        ip("link set up1 up");
        ip("addr add 192.0.2.1/24 dev up1");
        ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev up1");
        let patience = Patience { answer: Duration::from_secs(3600), ..impatient(&Heard::new()) };
        let config = Config::new("http://192.0.2.2:6443".parse().unwrap());
        let api: Api<Raw> = Api::all_with(connect(&config, patience).unwrap(), &Kind::Pod);
        let params = ListParams::default();
        let listed = tokio::time::timeout(Duration::from_secs(20), api.list(&params)).await;
        assert!(listed.expect("it waits for ever").is_err());
    });
}

#[tokio::test]
async fn an_answer_that_falls_silent_is_an_error_and_its_last_part_was_heard() {
    let heard = Heard::new();
    let one = stream::once(std::future::ready(Ok(Frame::data(Bytes::from(EVENT)))));
    let silent = stream::StreamExt::chain(one, stream::pending());
    let before = Instant::now();
    let error = get(StreamBody::new(Box::pin(silent)), &heard).await;
    assert!(error.to_string().contains("said nothing for 100ms"), "{error}");
    let ages = heard.ages(before);
    assert!(ages[&Kind::Pod].is_zero() && !ages[&Kind::Node].is_zero(), "each watch for itself: {ages:?}");
}

#[tokio::test]
async fn a_watch_that_says_nothing_for_long_is_a_problem() {
    let heard = Heard::new();
    let begun = Instant::now();
    assert_eq!(heard.problems(begun), []);
    get(Full::new(Bytes::from(EVENT)).map_err(|never| match never {}), &heard).await;
    let problems: Vec<_> =
        heard.problems(begun + STALE_AFTER).into_iter().map(|problem| problem.object).collect();
    assert!(problems.contains(&"watch of Node".to_owned()) && !problems.contains(&"watch of Pod".to_owned()));
}

#[test]
fn a_secret_is_a_watch_of_its_own_while_somebody_names_it() {
    let heard = Heard::new();
    let begun = Instant::now();
    assert!(!heard.ages(begun).contains_key(&Kind::Secret), "nobody names one");
    let secret = |name: &str| Scope::Secret(name.to_owned());
    heard.expect(secret("a"));
    heard.expect(secret("b"));
    heard.forget(&secret("b"));
    heard.now(Some(&secret("b")));
    let problems = heard.problems(Instant::now() + STALE_AFTER);
    let objects: Vec<_> = problems.iter().map(|problem| problem.object.as_str()).collect();
    assert!(objects.contains(&"watch of Secret a") && !objects.contains(&"watch of Secret b"), "{objects:?}");
}
