/** What the browser is asked of a passkey, and what it answers, as the API has it. */

import * as api from './api';

export const hasPasskeys = 'credentials' in navigator && typeof PublicKeyCredential !== 'undefined';

/** Signs in, or proves anew who is signed in. */
export async function signInWithPasskey(): Promise<void> {
  const asked = await api.askPasskey();
  const found = await asking(() =>
    navigator.credentials.get({
      publicKey: {
        challenge: bytes(asked.challenge),
        rpId: asked.relying_party,
        userVerification: 'required',
        timeout: left(asked.expires_at),
        allowCredentials: asked.passkeys.map((id) => ({ type: 'public-key' as const, id: bytes(id) })),
      },
    }),
  );
  const { clientDataJSON, authenticatorData, signature, userHandle } = found.response as AuthenticatorAssertionResponse;
  await api.signInByPasskey({
    challenge: asked.challenge,
    credential: text(found.rawId),
    client_data: text(clientDataJSON),
    authenticator_data: text(authenticatorData),
    signature: text(signature),
    ...(userHandle && userHandle.byteLength > 0 ? { user: text(userHandle) } : {}),
  });
}

/** Makes one for whoever is signed in. */
export async function addPasskey(note: string) {
  const offer = await api.offerPasskey();
  const name = offer.name || 'Fleetward';
  const made = await asking(() =>
    navigator.credentials.create({
      publicKey: {
        challenge: bytes(offer.challenge),
        rp: { id: offer.relying_party, name: 'Fleetward' },
        user: { id: bytes(offer.user), name, displayName: name },
        pubKeyCredParams: offer.algorithms.map((alg) => ({ type: 'public-key' as const, alg })),
        excludeCredentials: offer.known.map((id) => ({ type: 'public-key' as const, id: bytes(id) })),
        authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
        attestation: 'none',
        timeout: left(offer.expires_at),
      },
    }),
  );
  const { clientDataJSON, attestationObject } = made.response as AuthenticatorAttestationResponse;
  return api.addPasskey({ challenge: offer.challenge, client_data: text(clientDataJSON), attestation: text(attestationObject), note });
}

async function asking(ask: () => Promise<Credential | null>): Promise<PublicKeyCredential> {
  try {
    const found = await ask();
    if (found instanceof PublicKeyCredential) return found;
  } catch (error) {
    const name = error instanceof DOMException ? error.name : '';
    if (name === 'InvalidStateError') throw new Error('This device has a passkey for you here already.');
    if (name === 'SecurityError') throw new Error('The browser makes no passkeys for this address. Operator: set access.console_url to the name by which people reach the console, with a certificate that browsers believe.');
    if (name !== 'NotAllowedError' && name !== 'AbortError') throw error;
  }
  throw new Error('No passkey was used: it was cancelled, took too long, or this device has none for this plane.');
}

const left = (until: string) => Math.max(10_000, Date.parse(until) - Date.now());

/** base64url without padding. */
export function bytes(text: string): Uint8Array<ArrayBuffer> {
  const found = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(found, (character) => character.charCodeAt(0));
}

export function text(bytes: ArrayBuffer): string {
  const characters = Array.from(new Uint8Array(bytes), (byte) => String.fromCharCode(byte));
  return btoa(characters.join('')).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
