/** Whether somebody is signed in, and the link that signs in. */

import * as api from './api';
import { live } from './live.svelte';

const TOKEN = /^#sign-in=([A-Za-z0-9_-]{16,256})$/;

class Session {
  state = $state<'unknown' | 'in' | 'out'>('unknown');
  /** Why the link did not open. */
  trouble = $state<string | undefined>(undefined);

  async begin(): Promise<void> {
    const token = TOKEN.exec(location.hash)?.[1];
    if (token || location.hash.startsWith('#sign-in=')) {
      // Gone from the address and the history before anything else is done with it.
      history.replaceState(null, '', '#/now');
      dispatchEvent(new HashChangeEvent('hashchange'));
    }
    if (token) {
      try {
        await api.signIn(token);
      } catch (error) {
        this.trouble = error instanceof Error ? error.message : String(error);
      }
    }
    try {
      await api.overview();
      this.state = 'in';
      live.start();
    } catch (error) {
      if (error instanceof api.Refused && error.isSignedOut) this.ended();
      else {
        this.state = 'in';
        live.start();
      }
    }
  }

  ended(): void {
    live.stop();
    this.state = 'out';
  }

  async end(): Promise<void> {
    try {
      await api.signOut();
    } finally {
      this.ended();
    }
  }
}

export const session = new Session();
