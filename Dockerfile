# Nexus in a container: built on one image, run on a smaller one, as an ordinary user.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package nexus

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --user-group --home-dir /nonexistent --shell /usr/sbin/nologin nexus
COPY --from=build /src/target/release/nexus /usr/local/bin/nexus
USER 10001:10001
EXPOSE 8080 8081
# A replica has no state of its own: give it a database by DATABASE_URL.
ENV NEXUS_LISTEN=0.0.0.0:8080 NEXUS_ADMIN_LISTEN=0.0.0.0:8081
ENTRYPOINT ["nexus"]
CMD ["server"]
