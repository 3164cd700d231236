/** A real OpenID provider on this machine, and between it and the plane somebody who bends its tokens. */

import { createHmac, generateKeyPairSync, type JsonWebKey, type KeyObject, sign } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { request } from 'node:https';
import Provider from 'oidc-provider';

export const CLIENT = 'fleetward';
export const SECRET = 'a-secret-of-the-tests-alone-0123456789';
/** What kind of event a sign-out is (OpenID Connect Back-Channel Logout). */
const SIGNED_OUT = 'http://schemas.openid.net/event/backchannel-logout';
/** Who signs in there, and in which groups they are. */
const GROUPS: Record<string, string[]> = { grace: ['fleet-operators', 'staff'], ada: ['fleet-admins'], mallory: ['sales'], lin: ['fleet-operators'] };

export interface Token {
  header: Record<string, unknown>;
  claims: Record<string, unknown>;
}
interface Sent {
  method?: string;
  headers?: HeadersInit;
  body?: unknown;
}
interface Key {
  kid: string;
  alg: 'ES256' | 'RS256';
  key: KeyObject;
}

export class IdentityProvider {
  /** Changes a token before the plane has it; it is signed anew, as its header says. */
  bend: ((token: Token) => void) | undefined;
  /** The plane hears nothing of who signs out here. */
  silent = false;
  /** Groups as they are now. */
  readonly groups = structuredClone(GROUPS);
  private keys: Key[] = [];
  private provider: Provider | undefined;
  private redirect = '';
  private algorithm: Key['alg'] = 'ES256';

  private constructor(
    private readonly server: Server,
    readonly issuer: string,
  ) {}

  static async listen(): Promise<IdentityProvider> {
    let own: IdentityProvider | undefined;
    const server = createServer((request, response) => own?.answer(request, response));
    await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready));
    const address = server.address();
    own = new IdentityProvider(server, `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`);
    return own;
  }

  /** Lets the plane at this origin send people here, with keys that were never used before. */
  serve(origin: string, algorithm: Key['alg'] = 'ES256'): void {
    const kid = () => Math.random().toString(36).slice(2);
    this.redirect = `${origin}/`;
    this.algorithm = algorithm;
    this.keys = [
      { kid: kid(), alg: 'ES256', key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey },
      { kid: kid(), alg: 'RS256', key: generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey },
    ];
    const groups = (login: string) => this.groups[login] ?? [];
    this.provider = new Provider(this.issuer, {
      clients: [
        {
          client_id: CLIENT, client_secret: SECRET, redirect_uris: [this.redirect], response_types: ['code'], grant_types: ['authorization_code'],
          token_endpoint_auth_method: 'client_secret_basic', id_token_signed_response_alg: this.algorithm,
          post_logout_redirect_uris: [this.redirect], backchannel_logout_uri: `${this.redirect}api/v1/access/sign-in/provider/sign-out`, backchannel_logout_session_required: true,
        },
      ],
      jwks: { keys: this.keys.map(({ kid, alg, key }) => ({ ...(key.export({ format: 'jwk' }) as JsonWebKey), kid, alg, use: 'sig' })) },
      pkce: { required: () => true },
      // What it knows goes into the ID token: the plane asks nobody else.
      conformIdTokenClaims: false,
      claims: { openid: ['sub', 'groups'], profile: ['name'] },
      findAccount: (_: unknown, login: string) => ({ accountId: login, claims: () => ({ sub: login, name: `${login} <b>`, groups: groups(login) }) }),
      cookies: { keys: ['for-the-tests'] },
      features: { backchannelLogout: { enabled: true } },
      // The plane's certificate is of its own CA.
      fetch: async (url: URL | string, sent: Sent) => (this.silent ? new Response(null, { status: 204 }) : tell(url, sent)),
      ttl: { Session: 3600, Interaction: 600, Grant: 3600, AuthorizationCode: 60, IdToken: 300, AccessToken: 300 },
    });
  }

  /** New keys under new names; a plane that knows the old ones has to look again. */
  rotate(algorithm: Key['alg']): void {
    this.serve(this.redirect.slice(0, -1), algorithm);
  }

  /** The provider's word that somebody signed out there, as a test wants it. */
  word(claims: Record<string, unknown>, header: Record<string, unknown> = {}): string {
    const now = Math.floor(Date.now() / 1000);
    const said = { iss: this.issuer, aud: CLIENT, iat: now, exp: now + 120, jti: Math.random().toString(36), events: { [SIGNED_OUT]: {} }, ...claims };
    const kid = this.keys.find(({ alg }) => alg === this.algorithm)?.kid;
    return this.signed({ alg: this.algorithm, kid, typ: 'logout+jwt', ...header }, said);
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    if (!this.provider) {
      response.writeHead(503).end();
      return;
    }
    if (this.bend && request.url === '/token') this.bending(response);
    this.provider.callback()(request, response);
  }

  /** Whatever is answered next is taken apart and put together as the test wants it. */
  private bending(response: ServerResponse): void {
    const end = response.end.bind(response) as (text: string) => ServerResponse;
    response.end = ((text: unknown) => {
      const said = JSON.parse(String(text)) as { id_token?: string };
      if (said.id_token) said.id_token = this.bent(said.id_token);
      const body = JSON.stringify(said);
      response.setHeader('content-length', Buffer.byteLength(body));
      return end(body);
    }) as typeof response.end;
  }

  private bent(token: string): string {
    const part = (at: number) => JSON.parse(Buffer.from(token.split('.')[at] ?? '', 'base64url').toString());
    const { header, claims }: Token = { header: part(0), claims: part(1) };
    const both = { header, claims };
    this.bend?.(both);
    return this.signed(both.header, both.claims);
  }

  private signed(header: Record<string, unknown>, claims: Record<string, unknown>): string {
    const signed = [header, claims].map((one) => Buffer.from(JSON.stringify(one)).toString('base64url')).join('.');
    return `${signed}.${this.signature(String(header['alg']), signed)}`;
  }

  private signature(algorithm: string, signed: string): string {
    const key = this.keys.find(({ alg }) => alg === algorithm)?.key;
    if (key) return sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');
    if (algorithm !== 'HS256') return '';
    // The old trick: the public key as the secret that both are believed to share.
    const known = this.keys.find(({ alg }) => alg === this.algorithm)?.key.export({ format: 'jwk' }) as JsonWebKey;
    return createHmac('sha256', Buffer.from(known.n ?? known.x ?? '', 'base64url')).update(signed).digest('base64url');
  }
}

/** A form that a program posts to the plane. */
export function tell(url: URL | string, sent: Sent): Promise<Response> {
  return new Promise((done, fail) => {
    const headers = Object.fromEntries(new Headers(sent.headers));
    const asked = request(url, { method: sent.method ?? 'GET', headers, rejectUnauthorized: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => done(new Response(Buffer.concat(chunks), { status: response.statusCode ?? 500 })));
    });
    asked.on('error', fail);
    asked.end(sent.body === undefined ? undefined : String(sent.body));
  });
}
