"""A real Mosquitto with an acl_file, asked on loopback: for each (user, verb, topic) of standard input
whether it lets it through. Who may hear is asked by a message of `root`, whose lines the test adds."""

import json, os, socket, struct, subprocess, sys, tempfile

asked = json.load(sys.stdin)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def text(value):
    value = value.encode()
    return struct.pack(">H", len(value)) + value


def packet(kind, body):
    length, head = len(body), bytearray([kind])
    while True:
        byte, length = length % 128, length // 128
        head.append(byte | (128 if length else 0))
        if not length:
            return bytes(head) + body


class Client:
    """MQTT 5, as much as is needed."""

    def __init__(self, port, user):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.number = 0
        self.send(0x10, text("MQTT") + bytes([5, 0xC2]) + struct.pack(">H", 60) + b"\0"
                  + text(user) + text(user) + text("secret"))
        kind, body = self.read()
        assert kind == 0x20 and body[1] == 0, (user, kind, body)

    def send(self, kind, body):
        self.socket.sendall(packet(kind, body))

    def exactly(self, count):
        got = b""
        while len(got) < count:
            more = self.socket.recv(count - len(got))
            assert more, "the broker closed the connection"
            got += more
        return got

    def read(self):
        kind, length, shift = self.exactly(1)[0], 0, 0
        while True:
            byte = self.exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return kind, self.exactly(length)

    def publish(self, topic):
        """The reason code of its acknowledgement; below 0x80 it was taken."""
        self.number += 1
        self.send(0x32, text(topic) + struct.pack(">H", self.number) + b"\0" + b"x")
        while True:
            kind, body = self.read()
            if kind == 0x40:
                return body[2] if len(body) > 2 else 0

    def subscribe(self, topic):
        self.number += 1
        self.send(0x82, struct.pack(">H", self.number) + b"\0" + text(topic) + b"\0")
        assert self.read()[0] == 0x90

    def unsubscribe(self, topic):
        self.number += 1
        self.send(0xA2, struct.pack(">H", self.number) + b"\0" + text(topic))
        assert self.read()[0] == 0xB0

    def heard(self):
        """What came until the answer to a ping, which comes after whatever was sent before it."""
        self.send(0xC0, b"")
        heard = 0
        while True:
            kind, body = self.read()
            if kind == 0xD0:
                return heard
            heard += kind & 0xF0 == 0x30


with tempfile.TemporaryDirectory() as folder:
    answers = []
    for case in asked:
        users = sorted({user for user, _, _ in case["questions"]} | {"root"})
        acl, passwords = os.path.join(folder, "acl"), os.path.join(folder, "passwords")
        config = os.path.join(folder, "config")
        with open(acl, "w") as file:
            file.write(case["acl"] + "\nuser root\ntopic readwrite #\n")
        with open(passwords, "w") as file:
            file.write("".join(f"{user}:secret\n" for user in users))
        subprocess.run(["mosquitto_passwd", "-U", passwords], check=True)
        for path in (acl, passwords):
            os.chmod(path, 0o644)
        os.chmod(folder, 0o755)
        port = free_port()
        with open(config, "w") as file:
            file.write(f"listener {port} 127.0.0.1\nallow_anonymous false\nacl_file {acl}\n"
                       f"password_file {passwords}\nlog_dest stderr\n")
        broker = subprocess.Popen(["mosquitto", "-v", "-c", config], stderr=subprocess.PIPE, text=True)
        log = []
        for line in broker.stderr:
            log.append(line)
            if "running" in line:
                break
        else:
            sys.exit("mosquitto did not start: " + "".join(log))
        # It would wait for whoever reads what it logs.
        import threading
        threading.Thread(target=broker.stderr.read, daemon=True).start()
        clients = {user: Client(port, user) for user in users}
        said = []
        for user, verb, topic in case["questions"]:
            client = clients[user]
            if verb == "publish":
                said.append(client.publish(topic) < 0x80)
            else:
                client.subscribe(topic)
                assert clients["root"].publish(topic) < 0x80
                said.append(client.heard() > 0)
                client.unsubscribe(topic)
        answers.append(said)
        broker.terminate()
        broker.wait()
    print(json.dumps(answers))
