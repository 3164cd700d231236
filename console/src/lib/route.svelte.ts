/** Where we are: `#/fleet/cam-3`, `#/identity/certificates?state=revoked`. The fragment never reaches a server. */

export interface Place {
  page: string;
  /** What on that page, if one is chosen. */
  chosen: string | undefined;
  /** What is looked for there. */
  asked: Readonly<Record<string, string>>;
}

function read(): Place {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [page = '', chosen] = path.split('/');
  return { page: page || 'now', chosen: decoded(chosen), asked: Object.fromEntries(new URLSearchParams(query)) };
}

function decoded(part: string | undefined): string | undefined {
  if (!part) return undefined;
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

class Route {
  at = $state<Place>(read());
  private shown = location.hash;

  constructor() {
    addEventListener('hashchange', () => this.follow());
  }

  /** Whether the address has changed and the browser has not told us yet. */
  get isLeft(): boolean {
    return location.hash !== this.shown;
  }

  /** Shows another place than the address asks for; nothing of that stays in the history. */
  replace(hash: string): void {
    history.replaceState(null, '', `${location.pathname}${hash}`);
    this.follow();
  }

  private follow(): void {
    this.shown = location.hash;
    this.at = read();
  }
}

export const route = new Route();

/** What is empty is not asked for. */
export function to(page: string, chosen?: string | number, asked: Record<string, string | undefined> = {}): string {
  const path = chosen === undefined ? `#/${page}` : `#/${page}/${encodeURIComponent(String(chosen))}`;
  const query = new URLSearchParams(Object.entries(asked).filter((pair): pair is [string, string] => Boolean(pair[1])));
  return query.size > 0 ? `${path}?${query}` : path;
}

export function go(page: string, chosen?: string | number, asked?: Record<string, string | undefined>): void {
  location.hash = to(page, chosen, asked);
}

/** Sends on from a place that shows nothing, and no step back leads there. Whoever has just gone elsewhere is let go. */
export function redirect(page: string, chosen?: string): void {
  if (!route.isLeft) route.replace(to(page, chosen));
}
