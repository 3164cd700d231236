/** How moments, amounts and names of the API are said to a person. */

const DAY = 86_400_000;

/** `19:04:07`, with the day in front where it is not today's; UTC, as in the log. */
export function moment(time: string, now = Date.now()): string {
  const at = Date.parse(time);
  if (Number.isNaN(at)) return time;
  const iso = new Date(at).toISOString();
  const today = new Date(now).toISOString().slice(0, 10);
  return iso.startsWith(today) ? iso.slice(11, 19) : `${iso.slice(0, 10)} ${iso.slice(11, 16)}`;
}

/** `just now`, `4 min ago`, `in 12 days`. */
export function ago(time: string, now = Date.now()): string {
  const at = Date.parse(time);
  if (Number.isNaN(at)) return time;
  const apart = Math.abs(now - at);
  if (apart < 5_000) return 'just now';
  const said = span(apart);
  return at > now ? `in ${said}` : `${said} ago`;
}

export function span(millis: number): string {
  if (millis < 60_000) return `${Math.round(millis / 1000)} s`;
  if (millis < 3_600_000) return `${Math.round(millis / 60_000)} min`;
  if (millis < 2 * DAY) return `${Math.round(millis / 3_600_000)} h`;
  if (millis < 730 * DAY) return `${Math.round(millis / DAY)} days`;
  return `${Math.round(millis / (365.25 * DAY))} years`;
}

export function micros(amount: number): string {
  return amount < 1000 ? `${amount} µs` : `${(amount / 1000).toFixed(amount < 10_000 ? 1 : 0)} ms`;
}

export function bytes(amount: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = amount;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `1 device`, `5 devices`. */
export function count(amount: number, one: string, many = `${one}s`): string {
  return `${amount.toLocaleString('en')} ${amount === 1 ? one : many}`;
}

/** `unexpected-destination` as it is read: `unexpected destination`. */
export function spoken(name: string): string {
  return name.replaceAll('-', ' ').replace(/\bdns\b/g, 'DNS').replace(/\bapi\b/g, 'API').replace(/\btls\b/g, 'TLS');
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
