//! EMQX and AWS IoT by stubs that are made from their documentation: each request exactly, in its
//! order, and what is done with each answer. Nothing here says how the services themselves behave.

use super::{House, PATIENCE};
use crate::broker::Broker;
use crate::broker::aws_iot::tests::{KEY, KEY_ID, botocore};
use crate::plane::digest;
use crate::tasks::carry;
use model::RevocationReason;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// One request as it came.
#[derive(Debug)]
struct Asked {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Answers by what `answer` says of the first line: a status and a body. Ends with its runtime.
fn stub(
    answer: impl Fn(usize, &str) -> (u16, &'static str) + Send + 'static,
) -> (u16, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let mut headers = BTreeMap::new();
            loop {
                let mut header = String::new();
                stream.read_line(&mut header).unwrap();
                let Some((name, value)) = header.trim().split_once(": ") else {
                    break;
                };
                headers.insert(name.to_lowercase(), value.to_owned());
            }
            let length = headers
                .get("content-length")
                .map_or(0, |n| n.parse().unwrap());
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let line = line.trim().to_owned();
            let (status, text) = answer(number, &line);
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            let asked = Asked {
                line,
                headers,
                body: String::from_utf8(body).unwrap(),
            };
            if tell.send(asked).is_err() {
                return;
            }
        }
    });
    (port, told)
}

fn secret(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn next(told: &mut mpsc::UnboundedReceiver<Asked>) -> Asked {
    tokio::time::timeout(PATIENCE, told.recv())
        .await
        .expect("nothing is asked")
        .unwrap()
}

fn carrying(house: &House, broker: Broker) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stopping, stopped) = watch::channel(false);
    let task = tokio::spawn(carry::run(Arc::clone(&house.plane), broker, stopped));
    (stopping, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn emqx_is_asked_as_its_documentation_has_it() {
    let scratch = tempfile::tempdir().unwrap();
    let key = scratch.path().join("emqx.key");
    secret(&key, "0123456789abcdef:s3cret\n");
    // The first is tried again; cam-2 stands on its list already, for an hour perhaps; of cam-3 it
    // has no session.
    let (port, mut told) = stub(|number, line| match (number, line) {
        (0, _) => (503, ""),
        (3, _) => (400, r#"{"code":"ALREADY_EXISTS","message":"x"}"#),
        (_, line) if line.starts_with("DELETE /api/v5/clients/cam-3 ") => (404, ""),
        (_, line) if line.starts_with("DELETE") => (204, ""),
        _ => (200, "{}"),
    });
    let more =
        format!("[brokers]\nemqx_url = \"http://127.0.0.1:{port}\"\nemqx_key_file = {key:?}\n");
    let house = House::with_config(&["cam-1", "cam-2", "cam-3"], &more).await;
    let (stopping, task) = carrying(&house, Broker::Emqx);
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let kept_out = |name: &str| {
        format!(
            r#"{{"as":"clientid","by":"fleetward","reason":"revoked","until":"infinity","who":"{name}"}}"#
        )
    };
    let banned = "POST /api/v5/banned HTTP/1.1";
    let expect = |asked: &Asked, line: &str, body: &str| {
        assert_eq!((asked.line.as_str(), json(&asked.body)), (line, json(body)));
        // As curl -u has it.
        let basic = "Basic MDEyMzQ1Njc4OWFiY2RlZjpzM2NyZXQ=";
        assert_eq!(asked.headers["authorization"], basic);
        assert_eq!(asked.headers["host"], format!("127.0.0.1:{port}"));
        let media_type = asked.headers.get("content-type").map(String::as_str);
        assert_eq!(media_type, (!body.is_empty()).then_some("application/json"));
    };
    let for_good = RevocationReason::KeyCompromise;
    house.revoke("device/cam-1", for_good).await;
    expect(&next(&mut told).await, banned, &kept_out("cam-1"));
    expect(&next(&mut told).await, banned, &kept_out("cam-1"));
    let kick = |name: &str| format!("DELETE /api/v5/clients/{name} HTTP/1.1");
    expect(&next(&mut told).await, &kick("cam-1"), "");

    house.revoke("device/cam-2", for_good).await;
    let drop_of = |name: &str| format!("DELETE /api/v5/banned/clientid/{name} HTTP/1.1");
    expect(&next(&mut told).await, banned, &kept_out("cam-2"));
    expect(&next(&mut told).await, &drop_of("cam-2"), "");
    expect(&next(&mut told).await, banned, &kept_out("cam-2"));
    expect(&next(&mut told).await, &kick("cam-2"), "");

    let hold = RevocationReason::CertificateHold;
    house.revoke("device/cam-3", hold).await;
    expect(&next(&mut told).await, banned, &kept_out("cam-3"));
    expect(&next(&mut told).await, &kick("cam-3"), "");
    house.release("device/cam-3").await.unwrap();
    expect(&next(&mut told).await, &drop_of("cam-3"), "");

    // One certificate of a device that goes on: its session ends, and it may come back.
    let device = house.connected("cam-3").await;
    let id = identity::certificate_id(device.ldevid().unwrap().certificate()).unwrap();
    house.revoke(&format!("certificate/{id}"), for_good).await;
    expect(&next(&mut told).await, &kick("cam-3"), "");
    stopping.send_replace(true);
    task.await.unwrap();
    let (_, waiting) = house.plane.store.outbox_of("emqx").unwrap();
    assert!(waiting <= 1, "{waiting} wait");
    assert!(told.try_recv().is_err());
    drop(device);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_iot_is_asked_as_its_documentation_has_it() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("credentials");
    secret(
        &file,
        &format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {KEY}\n"),
    );
    // The first is tried again, and the service does not know what cam-2 has.
    let (port, mut told) = stub(move |number, line| match number {
        0 => (429, r#"{"message":"Rate exceeded"}"#),
        // No session of that client.
        _ if line.starts_with("DELETE") => (404, r#"{"message":"not found"}"#),
        _ if line.contains("newStatus=INACTIVE") => (404, r#"{"message":"not found"}"#),
        _ => (200, ""),
    });
    let url = format!("http://127.0.0.1:{port}");
    let more = format!(
        "[brokers]\naws_iot_region = \"eu-central-1\"\naws_iot_url = {url:?}\n\
         aws_iot_data_url = {url:?}\naws_iot_credentials_file = {file:?}\n"
    );
    let house = House::with_config(&["cam-1", "cam-2"], &more).await;
    let (first, second) = (
        house.connected("cam-1").await,
        house.connected("cam-2").await,
    );
    let id_of = |device: &sim::Device| digest(device.ldevid().unwrap().certificate()).to_string();
    let (one, other) = (id_of(&first), id_of(&second));
    let (stopping, task) = carrying(&house, Broker::AwsIot);
    let expect_signed = |asked: &Asked, what: (&str, &str), path: &str| {
        assert_eq!(asked.line, format!("{} {path} HTTP/1.1", what.1));
        assert_eq!(asked.body, "");
        let moment = &asked.headers["x-amz-date"];
        let theirs = botocore(what, &format!("{url}{path}"), moment, "eu-central-1", None);
        if let Some(theirs) = theirs {
            assert_eq!(asked.headers["authorization"], theirs);
        }
    };
    let expect = |asked: &Asked, id: &str, status: &str| {
        let path = format!("/certificates/{id}?newStatus={status}");
        expect_signed(asked, ("iot", "PUT"), &path);
    };
    let expect_ended = |asked: &Asked, name: &str| {
        let path = format!("/connections/{name}");
        expect_signed(asked, ("iotdata", "DELETE"), &path);
    };
    house
        .revoke("device/cam-1", RevocationReason::KeyCompromise)
        .await;
    expect(&next(&mut told).await, &one, "REVOKED");
    expect(&next(&mut told).await, &one, "REVOKED");
    expect_ended(&next(&mut told).await, "cam-1");
    house
        .revoke("product/camera", RevocationReason::CertificateHold)
        .await;
    let mut asked = [next(&mut told).await, next(&mut told).await];
    asked.sort_by_key(|asked| !asked.line.contains(&other));
    expect(&asked[0], &other, "INACTIVE");
    // What was revoked is not merely on hold.
    expect(&asked[1], &one, "REVOKED");
    let mut asked = [next(&mut told).await, next(&mut told).await];
    asked.sort_by_key(|asked| asked.line.clone());
    expect_ended(&asked[0], "cam-1");
    expect_ended(&asked[1], "cam-2");
    // Of the two only the one comes back that nothing else bars.
    house.release("product/camera").await.unwrap();
    expect(&next(&mut told).await, &other, "ACTIVE");
    house
        .revoke("device/cam-2", RevocationReason::KeyCompromise)
        .await;
    expect(&next(&mut told).await, &other, "REVOKED");
    expect_ended(&next(&mut told).await, "cam-2");
    stopping.send_replace(true);
    task.await.unwrap();
    drop((first, second));
    house.end().await;
}
