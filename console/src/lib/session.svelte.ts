/** Who is signed in and what they may, and the ways that sign in. */

import * as api from './api';
import { live } from './live.svelte';
import { route } from './route.svelte';
import type { WhoAmI } from './shapes';
import { visible } from './visible';

const TOKEN = /^#sign-in=([A-Za-z0-9_-]{16,256})$/;
/** Where somebody was before they went to the provider. */
const PLACE = 'place';

class Session {
  state = $state<'unknown' | 'in' | 'out'>('unknown');
  who = $state.raw<WhoAmI | undefined>();
  /** Why what was tried did not sign in. */
  trouble = $state<string | undefined>(undefined);
  /** Where whoever has just signed out does so at the provider too. */
  outThere = $state.raw<string | undefined>();

  async begin(): Promise<void> {
    const come = this.comeFromProvider();
    const token = TOKEN.exec(location.hash)?.[1];
    if (token || location.hash.startsWith('#sign-in=')) route.replace('#/now');
    if (token) await this.trying(() => api.signIn(token));
    if (come) await this.trying(come);
    await this.refresh();
  }

  /** Whether whoever is signed in may ask for this. The plane decides; this is what is offered. */
  may(action: string): boolean {
    return this.who?.actions.includes(action) ?? false;
  }

  /** Who they are and what they may now. */
  async refresh(): Promise<void> {
    try {
      this.who = await api.whoami();
    } catch (error) {
      if (error instanceof api.Refused && error.isSignedOut) return this.ended();
      this.trouble = error instanceof Error ? error.message : String(error);
    }
    if (this.state !== 'in' && this.may('inventory.read')) live.start();
    this.outThere = undefined;
    this.state = 'in';
  }

  /** Leaves for the provider; what it says is read when the browser comes back. */
  async toProvider(again: boolean): Promise<void> {
    const { location: there } = await api.beginByProvider(again);
    try {
      sessionStorage.setItem(PLACE, location.hash);
    } catch {
      // Then they come back to the first page.
    }
    location.assign(there);
  }

  ended(): void {
    live.stop();
    this.who = undefined;
    this.state = 'out';
  }

  async end(): Promise<void> {
    try {
      const { provider_location } = await api.signOut();
      this.outThere = provider_location ?? undefined;
    } finally {
      this.ended();
    }
  }

  private async trying(way: () => Promise<unknown>): Promise<void> {
    try {
      await way();
    } catch (error) {
      this.trouble = error instanceof Error ? error.message : String(error);
    }
  }

  /** The code is gone from the address and the history before anything else is done with it. */
  private comeFromProvider(): (() => Promise<unknown>) | undefined {
    const said = new URLSearchParams(location.search);
    const [state, code, error] = ['state', 'code', 'error'].map((name) => said.get(name));
    if (location.search === '') return undefined;
    let place = '#/now';
    try {
      place = sessionStorage.getItem(PLACE) || place;
      sessionStorage.removeItem(PLACE);
    } catch {
      // As above.
    }
    route.replace(place.startsWith('#/') ? place : '#/now');
    if (error) return () => Promise.reject(new Error(`The provider let nobody in (${visible(error, 64)}). Try again, or ask whoever runs it.`));
    if (!state || !code) return undefined;
    return () => api.signInByProvider({ code, state, iss: said.get('iss') });
  }
}

export const session = new Session();
