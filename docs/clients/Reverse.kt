// Reverses redeemed points, and prints the reversal's id. Needs Java 11 or later, and no library:
//   kotlinc Reverse.kt -include-runtime -d reverse.jar
//   java -jar reverse.jar HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]
// HOST is such as http://127.0.0.1:8000; without POINTS all that is left is reversed.

import java.io.IOException
import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.time.Duration
import java.util.Base64
import java.util.UUID
import kotlin.system.exitProcess

const val TRIES = 5

class NotReversed(message: String) : Exception(message)

fun main(arguments: Array<String>) {
    if (arguments.size !in 5..6) {
        System.err.println("usage: Reverse HOST USER SECRET REDEMPTION_ID CUSTOMER_ID [POINTS]")
        exitProcess(2)
    }
    // One key for one return. A till that can be switched off meanwhile keeps the key with the return.
    val key = System.getenv("IDEMPOTENCY_KEY") ?: UUID.randomUUID().toString()
    val request = request(arguments[0], arguments[1], arguments[2], body(arguments[3], arguments[4], arguments.getOrNull(5)), key)
    try {
        println(reversalId(send(request)))
    } catch (refusal: NotReversed) {
        System.err.println("not reversed: " + refusal.message)
        exitProcess(1)
    }
}

fun body(redemptionId: String, customerId: String, points: String?): String {
    val identifier = member("type", "ID") + "," + member("value", customerId)
    val asked = if (points == null) "" else "," + member("pointsToBeReversed", points)
    return "{" + member("redemptionId", redemptionId) + "," + quoted("identifier") + ":{" + identifier + "}" + asked + "}"
}

fun member(name: String, value: String): String = quoted(name) + ":" + quoted(value)

fun quoted(text: String): String = "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\""

fun request(host: String, user: String, secret: String, body: String, key: String): HttpRequest {
    val credentials = Base64.getEncoder().encodeToString((user + ":" + secret).toByteArray())
    return HttpRequest.newBuilder(URI.create(host + "/v2/points/reverse"))
        .timeout(Duration.ofSeconds(10))
        .header("Authorization", "Basic " + credentials)
        .header("Content-Type", "application/json")
        .header("Idempotency-Key", key)
        .POST(HttpRequest.BodyPublishers.ofString(body))
        .build()
}

/** The reply, whatever its status; a busy server and a broken connection are tried again, with the same key. */
fun send(request: HttpRequest): String {
    val http = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build()
    for (attempt in 1..TRIES) {
        var seconds = attempt.toLong()
        try {
            val response = http.send(request, HttpResponse.BodyHandlers.ofString())
            if (response.statusCode() !in listOf(409, 503) || attempt == TRIES) {
                return response.body()
            }
            seconds = response.headers().firstValueAsLong("Retry-After").orElse(seconds)
        } catch (error: IOException) {
            if (attempt == TRIES) {
                throw NotReversed("no answer: " + error.message + "; try again with the same key")
            }
        }
        Thread.sleep(seconds * 1000)
    }
    throw NotReversed("no answer")
}

/** A success has an orgId. A failure may come with HTTP 200 where the org speaks the engine's dialect. */
fun reversalId(reply: String): String {
    if (reply.contains(quoted("orgId") + ":")) {
        return text(reply, "reversalId")
    }
    // The first that follows "errors" is errors[0]; there is never a second.
    val error = reply.substringAfter(quoted("errors"))
    val code = Regex(quoted("code") + ":([0-9]+)").find(error)?.groupValues?.get(1)
    throw NotReversed(code + " " + text(error, "message") + ": " + text(error, "reason"))
}

/** The string that follows the first member of this name. A JSON library of yours does better. */
fun text(json: String, name: String): String {
    val member = Regex(quoted(name) + ":\"((?:[^\"\\\\]|\\\\.)*)\"")
    return member.find(json)?.groupValues?.get(1) ?: ""
}
