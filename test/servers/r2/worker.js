// The worker wrangler insists on; tests talk to the S3 endpoint beside it.
export default { fetch: () => new Response('local R2: S3 endpoint at /cdn-cgi/local/r2/s3\n') };
