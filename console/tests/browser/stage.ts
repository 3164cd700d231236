/** A real plane with an enrolled fleet, an intruder with a real key, an observer in the network. */

import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '../../..');
export const FLEETWARD = process.env['FLEETWARD'] ?? join(ROOT, 'target/debug/fleetward');
export const DEVICES = 12;
const READY_SECONDS = 60;

/** A device with a genuine factory identity. */
export interface Stranger {
  /** Its factory's CA, PEM. */
  ca: string;
  /** Asks by EST, always with the same request. */
  enroll(): Promise<{ status: number; text: string }>;
}

export class Stage {
  private readonly children: ChildProcess[] = [];
  private said = '';

  private constructor(
    readonly folder: string,
    private ports = { people: 0, devices: 0, mqtt: 0 },
  ) {}

  /** `access`: lines of configuration for people; then no device is enrolled. */
  static async open(access?: string): Promise<Stage> {
    const stage = new Stage(await mkdtemp(join(tmpdir(), 'fleetward-console-')));
    try {
      await stage.serve(access ?? '');
      if (access === undefined) await stage.enroll();
    } catch (error) {
      await stage.close();
      throw new Error(`${String(error)}\nthe plane said:\n${stage.said.slice(-4000)}`);
    }
    return stage;
  }

  get origin(): string {
    return `https://localhost:${this.ports.people}`;
  }

  /** The sign-in link, which works once. */
  async link(): Promise<string> {
    await this.fleetward('access', 'admin-link');
    const link = (await readFile(join(this.folder, 'data/admin-link'), 'utf8')).trim();
    return `${this.origin}/${new URL(link).hash}`;
  }

  async fleetward(...verb: string[]): Promise<string> {
    const { stdout } = await run(FLEETWARD, [...verb, '--data', join(this.folder, 'data')]);
    return stdout;
  }

  /** A session that stays, once it is subscribed: whoever contains the device touches it. */
  async subscribe(device: string): Promise<void> {
    // It says each step at once, not when its buffer is full.
    const client = this.keep(spawn('stdbuf', ['-oL', 'mosquitto_sub', '-d', ...this.mqtt(device), '-q', '1', '-t', `v1/camera/${device}/command/+`]));
    let said = '';
    await new Promise<void>((done, fail) => {
      client.stdout?.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes('Subscribed')) done();
      });
      client.once('exit', () => fail(new Error(`${device} did not subscribe: ${said}`)));
    });
  }

  /** One message, by the device's real key. `false`: it was refused. */
  async publish(device: string, topic: string, text: string): Promise<boolean> {
    try {
      // It succeeds when its message was answered, and says beside it that the answer was no.
      const { stderr } = await run('mosquitto_pub', [...this.mqtt(device), '-q', '1', '-t', topic, '-m', text], { timeout: 10_000 });
      return !/failed|error|not authori/i.test(stderr);
    } catch {
      return false;
    }
  }

  /** What the observer in the network tells of a device at its port. */
  async observe(device: string, observations: Record<string, unknown>[]): Promise<void> {
    const body = JSON.stringify({ observations: observations.map((one) => ({ device, bound_by: 'port', ...one })) });
    const at = (name: string) => readFile(join(this.folder, 'fleet-keys', name));
    const [ca, cert, key] = await Promise.all([at('ca.pem'), at('consumer.pem'), at('consumer.key')]);
    const asked = { host: 'localhost', port: this.ports.devices, path: '/api/v1/detection/observations', method: 'POST', ca, cert, key };
    await new Promise<void>((done, fail) => {
      const sent = request({ ...asked, headers: { 'content-type': 'application/json' } }, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => ((response.statusCode ?? 500) < 300 ? done() : fail(new Error(`observations: ${response.statusCode} ${text}`))));
      });
      sent.on('error', fail);
      sent.end(body);
    });
  }

  /** A factory with a CA of its own, registered here, and a device of it that nobody listed. */
  async stranger(serial: string): Promise<Stranger> {
    const at = join(this.folder, `factory-${serial}`);
    await mkdir(at);
    const openssl = (...parts: string[]) => run('openssl', parts, { cwd: at });
    const key = (name: string) => openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', name);
    await Promise.all(['ca.key', 'idevid.key', 'new.key'].map(key));
    await openssl('req', '-x509', '-new', '-key', 'ca.key', '-subj', '/CN=Hall Factory', '-days', '365', '-out', 'ca.pem');
    await openssl('req', '-new', '-key', 'idevid.key', '-subj', `/serialNumber=${serial}`, '-out', 'idevid.csr');
    await writeFile(join(at, 'idevid.ext'), 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n');
    await openssl('x509', '-req', '-in', 'idevid.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '300', '-extfile', 'idevid.ext', '-out', 'idevid.pem');
    await openssl('req', '-new', '-key', 'new.key', '-subj', '/CN=whatever', '-out', 'new.csr');
    await this.fleetward('identity', 'manufacturer', 'add', '--name', 'hall', '--ca', join(at, 'ca.pem'));
    const read = (name: string) => readFile(join(at, name));
    const [ca, cert, own, csr] = await Promise.all([readFile(join(this.folder, 'fleet-keys/ca.pem')), read('idevid.pem'), read('idevid.key'), read('new.csr')]);
    const asked = { host: 'localhost', port: this.ports.devices, path: '/.well-known/est/simpleenroll', method: 'POST', ca, cert, key: own };
    const headers = { 'content-type': 'application/x-pem-file', accept: 'application/pem-certificate-chain' };
    return {
      ca: join(at, 'ca.pem'),
      enroll: () =>
        new Promise((done, fail) => {
          const sent = request({ ...asked, headers }, (response) => {
            let text = '';
            response.on('data', (chunk: Buffer) => (text += chunk.toString()));
            response.on('end', () => done({ status: response.statusCode ?? 0, text }));
          });
          sent.on('error', fail);
          sent.end(csr);
        }),
    };
  }

  /** A serial number of that factory on the list of expected devices. */
  async expect(serial: string): Promise<void> {
    const list = join(this.folder, `${serial}.csv`);
    await writeFile(list, `serial,product\n${serial},camera\n`);
    await this.fleetward('identity', 'expect', '--manufacturer', 'hall', list);
  }

  async close(): Promise<void> {
    for (const child of this.children) child.kill('SIGTERM');
    await Promise.all(this.children.map((child) => (child.exitCode === null && child.signalCode === null ? new Promise((ended) => child.once('exit', ended)) : undefined)));
    await rm(this.folder, { recursive: true, force: true });
  }

  private async serve(more: string): Promise<void> {
    const config = join(this.folder, 'fleetward.toml');
    const data = join(this.folder, 'data');
    await writeFile(
      config,
      `data_dir = ${JSON.stringify(data)}\nlog_dir = ${JSON.stringify(join(this.folder, 'log'))}\n[listen]\npeople = "127.0.0.1:0"\ndevices = "127.0.0.1:0"\nmqtt = "127.0.0.1:0"\n${more}`,
    );
    const ready = join(this.folder, 'ready.json');
    const plane = this.keep(spawn(FLEETWARD, ['serve', '--config', config, '--ready-file', ready]));
    for (const stream of [plane.stdout, plane.stderr]) stream?.on('data', (chunk: Buffer) => (this.said += chunk.toString()));
    for (let left = READY_SECONDS * 10; !existsSync(ready); left--) {
      if (left === 0 || plane.exitCode !== null) throw new Error('the plane did not become ready');
      await new Promise((later) => setTimeout(later, 100));
    }
    const told = JSON.parse(await readFile(ready, 'utf8'));
    const port = (address: string) => Number(address.split(':').at(-1));
    this.ports = { people: port(told.people), devices: port(told.devices), mqtt: port(told.mqtt) };
  }

  /** The example fleet, with its playbook in force and an observer. */
  private async enroll(): Promise<void> {
    const fleet = join(this.folder, 'fleet');
    await cp(join(ROOT, 'examples/fleet'), fleet, { recursive: true });
    const playbook = join(fleet, 'playbooks/contain.toml');
    await writeFile(playbook, (await readFile(playbook, 'utf8')).replace('mode = "observe"', 'mode = "enforce"'));
    await appendFile(join(fleet, 'services/back-end.toml'), '\n[consumer]\ndescription = "The observer"\nobserves_network = true\n');
    await mkdir(join(this.folder, 'fleet-keys'));
    await run(join(dirname(FLEETWARD), 'sim'), [
      'enroll', '--socket', join(this.folder, 'data/fleetward.sock'), '--est', `127.0.0.1:${this.ports.devices}`,
      '--fleet', fleet, '--product', 'camera', '--devices', String(DEVICES), '--prefix', 'camera', '--out', join(this.folder, 'fleet-keys'),
    ]);
  }

  private mqtt(device: string): string[] {
    const keys = join(this.folder, 'fleet-keys');
    return [
      '-V', 'mqttv5', '-h', 'localhost', '-p', String(this.ports.mqtt), '--cafile', join(keys, 'ca.pem'),
      '--cert', join(keys, `devices/${device}.pem`), '--key', join(keys, `devices/${device}.key`), '-i', device,
    ];
  }

  private keep(child: ChildProcess): ChildProcess {
    this.children.push(child);
    return child;
  }
}
