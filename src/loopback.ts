/** Addresses that only this machine can reach: what travels there is read by nobody else. */

/** Says so of a host as a listener has it (`::1`) or an address (`[::1]`). */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/i.test(host);
}
