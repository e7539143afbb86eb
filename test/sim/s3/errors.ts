/**
 * The embedded server's one error: an S3 code with its HTTP status, answered as S3's error document.
 *
 * Codes and their status are those of the S3 API reference ("Error responses"); where Ceph RGW answers otherwise
 * than AWS the throwing line says which was chosen.
 */

/** An answer that refuses: becomes `<Error><Code>…`. */
export class S3Error extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message = code, headers: Record<string, string> = {}) {
    super(message);
    this.name = 'S3Error';
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

/** Refuses a request that misses something or has a value out of range. */
export function invalidArgument(message: string): S3Error {
  return new S3Error(400, 'InvalidArgument', message);
}

/** Refuses what this server does not play. */
export function notImplemented(what: string): S3Error {
  return new S3Error(501, 'NotImplemented', `${what} is not implemented by the embedded server`);
}

/** The answer to every lost condition. */
export function preconditionFailed(condition: string): S3Error {
  return new S3Error(412, 'PreconditionFailed', `the condition ${condition} does not hold`);
}
