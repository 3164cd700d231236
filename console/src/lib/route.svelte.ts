/** Where we are: `#/fleet/cam-3`. The fragment never reaches a server. */

export interface Place {
  page: string;
  /** What on that page, if one is chosen. */
  chosen: string | undefined;
}

function read(): Place {
  const [page = '', chosen] = location.hash.replace(/^#\/?/, '').split('/');
  return { page: page || 'now', chosen: decoded(chosen) };
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

  constructor() {
    addEventListener('hashchange', () => {
      this.at = read();
    });
  }
}

export const route = new Route();

export function to(page: string, chosen?: string | number): string {
  return chosen === undefined ? `#/${page}` : `#/${page}/${encodeURIComponent(String(chosen))}`;
}

export function go(page: string, chosen?: string | number): void {
  location.hash = to(page, chosen);
}
